import numpy as np
import pytest

from offroad_seg_core.label_mapping import LabelMapping, list_mappings, load_mapping
from offroad_seg_core.taxonomy import GROUPS, TaxonomyError, load_taxonomy


def test_by_name():
    mapping = LabelMapping.by_name(load_taxonomy('falcon10'), load_taxonomy('falcon7'))
    assert list(mapping.table[:11]) == [0, 1, 2, 3, 255, 255, 255, 4, 5, 6, 255]
    assert mapping.table.shape == (256,)
    labels = np.array([[9, 4], [255, 7]], np.uint8)
    np.testing.assert_array_equal(mapping.apply(labels), [[6, 255], [255, 4]])
    out = np.empty_like(labels)
    assert mapping.apply(labels, out) is out


@pytest.mark.parametrize('name', ['falcon10', 'goose64', 'rellis3d', 'rugd', 'wildscenes', 'ycor'])
def test_groups_are_classes_of_the_coarse_taxonomy(name):
    source, target = load_taxonomy(name), load_taxonomy('traversability7')
    assert target.names == target.groups == tuple(GROUPS)
    mapping = LabelMapping.by_group(source, target)
    for entry in source.classes:
        assert target.names[mapping.table[entry.id]] == entry.group
    with pytest.raises(TaxonomyError, match=r"groups of \w+ to falcon7: target: got '\w+'"):
        LabelMapping.by_group(source, load_taxonomy('falcon7'))


def test_categories_of_goose():
    goose = load_taxonomy('goose64')
    nine = LabelMapping.to_categories(goose, 'challenge9')
    # undefined, traffic_cone, snow, cobble, ..., car, person, bush, sky, military_vehicle
    assert [nine.table[i] for i in (0, 1, 2, 3, 12, 14, 17, 53, 63)] == [0, 4, 3, 2, 5, 7, 6, 8, 5]
    twelve = LabelMapping.to_categories(goose, 'categories12')
    assert [twelve.table[i] for i in (0, 8, 56)] == [255, 255, 255]
    assert [twelve.table[i] for i in (33, 54, 23, 13)] == [0, 10, 7, 9]
    assert LabelMapping.to_categories(goose, 'categories12', ignored=()).table[0] == 11
    with pytest.raises(TaxonomyError, match=r"'challenge'.*did you mean 'challenge9'"):
        LabelMapping.to_categories(goose, 'challenge')
    with pytest.raises(TaxonomyError, match=r"ignored: got 'void'.*did you mean 'Void'"):
        LabelMapping.to_categories(goose, 'categories12', ignored=['void'])


def write_mapping(path, **changes):
    ten, seven = load_taxonomy('falcon10'), load_taxonomy('falcon7')
    lines = {name: name if name in seven.names else None for name in ten.names}
    lines.update(changes)
    text = '\n'.join(f'  {name}: {target or "null"}' for name, target in lines.items())
    path.write_text(f'source: falcon10\ntarget: falcon7\nclasses:\n{text}\n')
    return path, ten, seven


def test_load(tmp_path):
    path, ten, seven = write_mapping(tmp_path / 'm.yaml', Logs='Rocks')
    mapping = LabelMapping.load(path, ten, seven)
    assert list(mapping.table[:10]) == [0, 1, 2, 3, 255, 255, 4, 4, 5, 6]


def test_load_refuses(tmp_path):
    path, ten, seven = write_mapping(tmp_path / 'm.yaml', Logs='Rock')
    with pytest.raises(TaxonomyError, match=r"m\.yaml: target: got 'Rock'.*'Rocks'"):
        LabelMapping.load(path, ten, seven)
    with pytest.raises(
        TaxonomyError, match=r"m\.yaml: source: got 'falcon10'; expected 'goose64'"
    ):
        LabelMapping.load(path, load_taxonomy('goose64'), seven)
    path, ten, seven = write_mapping(tmp_path / 'm.yaml', Lava='Rocks')
    with pytest.raises(TaxonomyError, match=r"m\.yaml: source: got 'Lava'"):
        LabelMapping.load(path, ten, seven)
    path.write_text(path.read_text().replace('  Sky: Sky\n', '').replace('  Lava: Rocks\n', ''))
    with pytest.raises(TaxonomyError, match='got nothing for Sky'):
        LabelMapping.load(path, ten, seven)


@pytest.mark.parametrize('name', list_mappings())
def test_shipped_mappings_load(name):
    source, target = (load_taxonomy(part) for part in name.split('_to_'))
    mapping = load_mapping(name, source, target)
    assert set(mapping.pairs) == set(source.names)
    assert (mapping.table != 255).any()


@pytest.mark.parametrize(
    ('name', 'pairs'),
    [
        ('rugd_to_goose64', {'dirt': 'soil', 'grass': None, 'bush': 'bush', 'concrete': None}),
        ('rellis3d_to_goose64', {'mud': 'soil', 'puddle': 'water', 'tree': None}),
        ('rellis3d_to_rugd', {'object': 'container/generic-object', 'barrier': None}),
        ('wildscenes_to_goose64', {'tree-foliage': 'tree_crown', 'grass': None}),
        ('ycor_to_goose64', {'traversable grass': 'low_grass', 'obstacle': None}),
        ('ycor_to_freiburg_forest', {'rough trail': 'road/trail', 'puddle': None}),
        ('rugd_to_falcon10', {'rock': 'Rocks', 'log': 'Logs', 'bush': None}),
        ('rellis3d_to_falcon10', {'tree': 'Trees', 'log': 'Logs', 'bush': None}),
        ('falcon10_to_goose64', {'Rocks': 'rock', 'Landscape': 'soil', 'Trees': None}),
    ],
)
def test_shipped_mappings_by_hand(name, pairs):
    source, target = (load_taxonomy(part) for part in name.split('_to_'))
    table = load_mapping(name, source, target).table
    for source_name, target_name in pairs.items():
        expected = 255 if target_name is None else target.index(target_name)
        assert table[source.index(source_name)] == expected


def test_shipped_mappings_never_make_costs_harmless():
    """Where a lethal class goes, the target must not be cheap ground."""
    for name in list_mappings():
        source, target = (load_taxonomy(part) for part in name.split('_to_'))
        for source_name, target_name in load_mapping(name, source, target).pairs.items():
            if target_name is not None and source.classes[source.index(source_name)].cost == 254:
                assert target.classes[target.index(target_name)].cost >= 230, (name, source_name)


def test_load_mapping_by_path_and_by_name(tmp_path):
    path, ten, seven = write_mapping(tmp_path / 'm.yaml')
    assert load_mapping(path, ten, seven).pairs == load_mapping(str(path), ten, seven).pairs
    with pytest.raises(
        TaxonomyError, match=r"got 'rugd_to_goose'.*did you mean 'rugd_to_goose64'"
    ):
        load_mapping('rugd_to_goose', load_taxonomy('rugd'), load_taxonomy('goose64'))
    with pytest.raises(TaxonomyError, match=r"rugd_to_goose64\.yaml: source: got 'rugd'"):
        load_mapping('rugd_to_goose64', ten, load_taxonomy('goose64'))
