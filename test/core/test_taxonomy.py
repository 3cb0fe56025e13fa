from pathlib import Path
import pickle
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import yaml

from offroad_seg_core.taxonomy import (
    GROUPS,
    Taxonomy,
    TaxonomyError,
    list_taxonomies,
    load_cost_overrides,
    load_taxonomy,
)

FALCON10 = (
    ['Trees', 'Lush Bushes', 'Dry Grass', 'Dry Bushes', 'Ground Clutter']
    + ['Flowers', 'Logs', 'Rocks', 'Landscape', 'Sky']
)  # fmt: skip


def test_shipped_names():
    assert list_taxonomies() == (
        ('falcon10', 'falcon7', 'freiburg_forest', 'goose64')
        + ('rellis3d', 'rugd', 'traversability7', 'wildscenes', 'ycor')
    )  # fmt: skip


def test_falcon10():
    taxonomy = load_taxonomy('falcon10')
    assert list(taxonomy.names) == FALCON10
    raw = [entry.raw_ids for entry in taxonomy.classes]
    assert raw == [(v,) for v in (100, 200, 300, 500, 550, 600, 700, 800, 7100, 10000)]
    assert taxonomy.classes[8].color_rgb == (210, 150, 75)
    assert taxonomy.index('Rocks') == 7


def test_falcon7_drops_three_classes_and_agrees_with_falcon10():
    ten, seven = load_taxonomy('falcon10'), load_taxonomy('falcon7')
    dropped = {'Ground Clutter', 'Flowers', 'Logs'}
    assert list(seven.names) == [name for name in FALCON10 if name not in dropped]
    assert seven.ignored_raw_ids == (550, 600, 700)
    for entry in seven.classes:
        twin = ten.classes[ten.index(entry.name)].to_dict()
        assert twin == {**entry.to_dict(), 'id': twin['id']}


def test_goose64():
    taxonomy = load_taxonomy('goose64')
    assert taxonomy.num_classes == 64
    assert [entry.raw_ids for entry in taxonomy.classes] == [(index,) for index in range(64)]
    spots = {0: 'undefined', 8: 'ego_vehicle', 17: 'bush', 31: 'soil', 53: 'sky', 59: 'hedge'}
    assert {index: taxonomy.names[index] for index in spots} == spots
    assert taxonomy.classes[59].color_rgb == (0xE8, 0xD3, 0x17)
    assert taxonomy.classes[2].color_rgb == (209, 87, 160)


def test_goose64_categories():
    categories = load_taxonomy('goose64').categories
    nine = {key: len(names) for key, names in categories['challenge9'].items()}
    assert list(nine.items()) == [
        ('other', 3),
        ('artificial_structures', 4),
        ('artificial_ground', 7),
        ('natural_ground', 6),
        ('obstacle', 20),
        ('vehicle', 11),
        ('vegetation', 10),
        ('human', 2),
        ('sky', 1),
    ]
    twelve = categories['categories12']
    assert list(twelve)[-1] == 'Void'
    assert len(twelve) == 12
    assert twelve['Void'] == ('undefined', 'ego_vehicle', 'outlier')
    assert 'asphalt' in twelve['Terrain']
    assert 'rail_track' in twelve['Road']


def test_goose64_unscored():
    taxonomy = load_taxonomy('goose64')
    ids = {taxonomy.index(name) for name in taxonomy.unscored['classes']}
    assert ids == {0, 7, 9, 35, 44, 56, 61, 63}
    assert taxonomy.unscored['categories12'] == ('Void',)


@pytest.mark.parametrize('name', list_taxonomies())
def test_safety_of_shipped_costs(name):
    costs = {entry.name: entry.cost for entry in load_taxonomy(name).classes}
    silent = {'Sky', 'sky', 'undefined', 'outlier', 'ego_vehicle', 'unknown'} & set(costs)
    assert silent == {key for key, cost in costs.items() if cost == 255}
    lethal = {'Trees', 'Rocks', 'Logs', 'person', 'animal', 'rider', 'water', 'rock'}
    lethal |= {'military_vehicle', 'rail_track', 'wire'}
    assert all(costs[key] == 254 for key in lethal & set(costs))
    assert all(costs[key] >= 200 for key in {'curb', 'pedestrian_crossing'} & set(costs))


def test_costs_order_ground_as_a_driver_would():
    falcon = load_taxonomy('falcon10').cost_table()
    ids = [FALCON10.index(n) for n in ('Landscape', 'Dry Grass', 'Ground Clutter', 'Dry Bushes')]
    ids += [FALCON10.index('Lush Bushes'), FALCON10.index('Rocks')]
    assert list(falcon[ids]) == sorted(set(falcon[ids]))


def test_palettes():
    taxonomy = load_taxonomy('falcon7')
    assert taxonomy.palette_rgb.shape == (256, 3)
    assert taxonomy.palette_rgb.dtype == np.uint8
    np.testing.assert_array_equal(taxonomy.palette_rgb[5], [210, 150, 75])
    np.testing.assert_array_equal(taxonomy.palette_bgr[5], [75, 150, 210])
    assert not taxonomy.palette_rgb[7:].any()
    assert taxonomy.palette_bgr.flags.c_contiguous
    with pytest.raises(ValueError, match='read-only'):
        taxonomy.palette_rgb[0] = 1


def test_cost_table_with_overrides():
    taxonomy = load_taxonomy('falcon7')
    table = taxonomy.cost_table({'Rocks': 90, 'Dry Grass': 255})
    assert table.dtype == np.uint8
    assert list(table[:7]) == [254, 230, 255, 180, 90, 20, 255]
    assert set(table[7:]) == {255}
    assert taxonomy.cost_table()[4] == 254


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        ({'rock': 1}, "got the class 'rock'.*did you mean 'Rocks'"),
        ({'Lava': 1}, "got the class 'Lava'.*known: Trees, Lush Bushes"),
        ({'Rocks': 256}, "cost override 'Rocks'.*got 256; expected 0 to 255"),
        ({'Rocks': -1}, 'got -1; expected 0 to 255'),
        ({'Rocks': 1.5}, 'got 1.5; expected an integer'),
        ({'Rocks': True}, 'got True; expected an integer'),
    ],
)
def test_cost_table_refuses(overrides, message):
    with pytest.raises(TaxonomyError, match=message):
        load_taxonomy('falcon10').cost_table(overrides)


def test_load_cost_overrides(tmp_path):
    path = tmp_path / 'tank.yaml'
    path.write_text('Rocks: 120\nDry Bushes: 40  # tracks\n')
    assert load_cost_overrides(path) == {'Rocks': 120, 'Dry Bushes': 40}


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('Rocks: 1\nRocks: 2\n', r"tank\.yaml.*key 'Rocks' is given 2 times"),
        ('Rocks: lethal\n', r"tank\.yaml: 'Rocks': got 'lethal'; expected an integer"),
        ('Rocks: 300\n', r"tank\.yaml: 'Rocks': got 300; expected 0 to 255"),
        ('7: 10\n', 'got int; expected a class name'),
        ('- Rocks\n', r'tank\.yaml: got list; expected a mapping'),
        ('Rocks: [\n', 'expected valid YAML'),
    ],
)
def test_load_cost_overrides_refuses(tmp_path, text, message):
    path = tmp_path / 'tank.yaml'
    path.write_text(text)
    with pytest.raises(TaxonomyError, match=f'(?s){message}'):
        load_cost_overrides(path)


@pytest.mark.parametrize('name', list_taxonomies())
def test_round_trip(name, tmp_path):
    taxonomy = load_taxonomy(name)
    path = tmp_path / 'copy.yaml'
    for style in (True, False):
        path.write_text(
            yaml.safe_dump(taxonomy.to_dict(), default_flow_style=style, sort_keys=False)
        )
        again = load_taxonomy(path)
        assert again == taxonomy
        assert again.sha256() == taxonomy.sha256()


def test_sha256_sees_content_only():
    data = load_taxonomy('goose64').to_dict()
    before = Taxonomy.from_dict(data).sha256()
    shuffled = {key: data[key] for key in reversed(data)}
    shuffled['classes'] = [dict(reversed(entry.items())) for entry in data['classes']]
    assert Taxonomy.from_dict(shuffled).sha256() == before
    data['classes'][31]['cost'] += 1
    assert Taxonomy.from_dict(data).sha256() != before
    turned = load_taxonomy('goose64').to_dict()
    turned['categories']['challenge9'] = dict(reversed(turned['categories']['challenge9'].items()))
    assert Taxonomy.from_dict(turned).sha256() != before


def test_survives_worker_processes():
    taxonomy = load_taxonomy('goose64')
    assert taxonomy.palette_rgb is not None
    assert pickle.loads(pickle.dumps(taxonomy)) == taxonomy


def test_imports_nothing_heavy():
    code = (
        'import sys, offroad_seg_core.legend, offroad_seg_core.label_mapping\n'
        'import offroad_seg_core.metrics.segmentation\n'
        "heavy = {'torch', 'onnxruntime', 'openvino', 'onnx', 'rclpy'} & set(sys.modules)\n"
        'sys.exit(str(heavy) if heavy else 0)'
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, '-c', code], check=True, cwd=root)


@st.composite
def taxonomies(draw):
    count = draw(st.integers(1, 12))
    text = st.text(st.characters(codec='utf-8', exclude_categories=['C', 'Z']), min_size=1)
    colors = st.tuples(*[st.integers(0, 255)] * 3)
    names = draw(st.lists(text, min_size=count, max_size=count, unique=True))
    shades = draw(st.lists(colors, min_size=count + 1, max_size=count + 1, unique=True))
    raw = draw(st.lists(st.integers(0, 65535), min_size=count + 2, max_size=30, unique=True))
    classes = []
    for index in range(count):
        group = draw(st.sampled_from(sorted(GROUPS)))
        cost = draw(st.integers(GROUPS[group].lowest_cost, GROUPS[group].highest_cost))
        entry = {'id': index, 'name': names[index], 'color': list(shades[index])}
        classes.append({**entry, 'raw_ids': [raw[index]], 'group': group, 'cost': cost})
    classes[-1]['raw_ids'] += raw[count : count + 1]
    cut = draw(st.integers(0, count))
    return {
        'name': 'random',
        'source': 'a test',
        'classes': classes,
        'ignored_raw_ids': raw[count + 1 :],
        'ignored_colors': [list(shades[count])],
        'categories': {'halves': {'first': names[:cut], 'second': names[cut:]}},
        'unscored': {'classes': names[:cut], 'halves': ['first']},
    }


@settings(max_examples=50, deadline=None)
@given(taxonomies())
def test_random_taxonomies_round_trip(data):
    taxonomy = Taxonomy.from_dict(data)
    text = yaml.safe_dump(taxonomy.to_dict(), allow_unicode=True)
    again = Taxonomy.from_dict(yaml.safe_load(text))
    assert again == taxonomy
    assert again.sha256() == Taxonomy.from_dict(data).sha256()
    for entry in data['classes']:
        assert again.index(entry['name']) == entry['id']
        assert again.classes[entry['id']].raw_ids == tuple(entry['raw_ids'])
        assert again.cost_table()[entry['id']] == entry['cost']
    assert again.ignored_raw_ids == tuple(data['ignored_raw_ids'])
    assert again.ignored_colors == tuple(map(tuple, data['ignored_colors']))
