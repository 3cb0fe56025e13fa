"""The taxonomies of datasets, against what the datasets themselves say."""

import pytest

from offroad_seg_core.taxonomy import Taxonomy, TaxonomyError, list_taxonomies, load_taxonomy


@pytest.mark.parametrize(
    ('name', 'digest'),
    [
        ('falcon10', '10347ef39ead995979b03ebd040be364a2d0978733c28c2a67dc46941293bf9b'),
        ('falcon7', '9620caf351542aac5a3e33d080e445662eadf2087f4df888ca54a8ed7c571c96'),
        ('goose64', '8b61b87fedca59c1c906a739f4aa18fe01bebf6610121624ba3a5a4e190046c4'),
    ],
)
def test_digests_of_trained_models_stay(name, digest):
    """Checkpoints and engines out there carry these digests."""
    assert load_taxonomy(name).sha256() == digest


@pytest.mark.parametrize(
    ('name', 'num_classes', 'spots', 'ignored'),
    [
        ('rugd', 24, {1: ('dirt', 108, 64, 20), 23: ('concrete', 101, 101, 11)}, (0, 0, 0)),
        ('rellis3d', 19, {3: ('grass', 0, 102, 0), 34: ('rubble', 110, 22, 138)}, (0, 0, 0)),
        ('ycor', 8, {1: ('smooth trail', 178, 176, 153), 8: ('sky', 1, 88, 255)}, (255,) * 3),
        ('wildscenes', 18, {1: ('asphalt', 255, 165, 0), 18: ('grass', 128, 128, 128)}, (0,) * 3),
        (
            'freiburg_forest',
            6,
            {1: ('road/trail', 170, 170, 170), 5: ('obstacle', 0, 0, 0)},
            (255,) * 3,
        ),
    ],
)
def test_other_datasets(name, num_classes, spots, ignored):
    taxonomy = load_taxonomy(name)
    assert taxonomy.num_classes == num_classes
    assert taxonomy.ignored_raw_ids == (0,)
    assert taxonomy.ignored_colors == (ignored,)
    by_raw_id = {raw_id: entry for entry in taxonomy.classes for raw_id in entry.raw_ids}
    for raw_id, (class_name, *color) in spots.items():
        assert by_raw_id[raw_id].name == class_name
        assert by_raw_id[raw_id].color_rgb == tuple(color)


def test_rellis3d_ids_have_gaps():
    raw = [entry.raw_ids[0] for entry in load_taxonomy('rellis3d').classes]
    assert raw == [1, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 17, 18, 19, 23, 27, 31, 33, 34]


def test_wildscenes_benchmark_set():
    taxonomy = load_taxonomy('wildscenes')
    groups = taxonomy.categories['benchmark15']
    scored = [name for name in groups if name not in taxonomy.unscored['benchmark15']]
    assert len(scored) == 15
    assert groups['other-terrain'] == ('asphalt', 'other-terrain')
    assert groups['other-object'] == ('pole', 'other-object')
    assert groups['unlabelled'] == ('vehicle',)
    assert list(load_taxonomy('freiburg_forest').categories['published5']) == [
        'road/trail',
        'grass',
        'vegetation',
        'sky',
        'obstacle',
    ]


@pytest.mark.parametrize('name', list_taxonomies())
def test_what_kills_is_lethal_in_every_dataset(name):
    """People, trunks, poles, water: no taxonomy may let a robot drive there."""
    lethal = {'person', 'tree', 'pole', 'water', 'puddle', 'fence', 'building', 'obstacle', 'rock'}
    lethal |= {'vehicle', 'log', 'tree-trunk', 'Trees', 'Rocks', 'Logs', 'car', 'bicycle'}
    for entry in load_taxonomy(name).classes:
        assert entry.cost == 254 or entry.name not in lethal


def test_ignored_colors():
    data = load_taxonomy('falcon7').to_dict()
    assert 'ignored_colors' not in data
    data['ignored_colors'] = ['#0000ff', [1, 2, 3]]
    taxonomy = Taxonomy.from_dict(data)
    assert taxonomy.ignored_colors == ((0, 0, 255), (1, 2, 3))
    assert taxonomy.to_dict()['ignored_colors'] == ['#0000ff', '#010203']
    assert taxonomy.sha256() != load_taxonomy('falcon7').sha256()


@pytest.mark.parametrize(
    ('colors', 'message'),
    [
        (['#87ceeb'], r"colour '#87ceeb' twice .Sky and ignored_colors"),
        (['#010203', '#010203'], 'colour .#010203. twice'),
        (['red'], "ignored_colors: got 'red'; expected '#rrggbb'"),
        ('#010203', "ignored_colors: got '#010203'; expected a list"),
    ],
)
def test_ignored_colors_refuses(colors, message):
    data = {**load_taxonomy('falcon7').to_dict(), 'ignored_colors': colors}
    with pytest.raises(TaxonomyError, match=message):
        Taxonomy.from_dict(data)
