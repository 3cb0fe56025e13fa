import pytest
import yaml

from offroad_seg_core.taxonomy import Taxonomy, TaxonomyError, load_taxonomy

FALCON10 = list(load_taxonomy('falcon10').names)


def change(path, value):
    """Return an edit that sets ``data[path[0]][path[1]]... = value``."""

    def edit(data):
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return edit


BROKEN = [
    (
        change(['classes', 3, 'id'], 4),
        "class 'Dry Bushes': got id 4; expected id 3; ids are 0 to 9",
    ),
    (change(['classes', 3, 'name'], 'Trees'), "name 'Trees' twice"),
    (change(['classes', 3, 'color'], '#228b22'), "'#228b22' twice .Trees and Dry Bushes"),
    (change(['classes', 3, 'raw_ids'], [100]), 'raw id 100 twice .Trees and Dry Bushes'),
    (change(['classes', 3, 'raw_ids'], [5, 5]), 'raw id 5 twice'),
    (change(['classes', 3, 'raw_ids'], []), "class 'Dry Bushes': got no raw_ids"),
    (change(['classes', 3, 'raw_ids'], [65536]), 'got 65536; expected 0 to 65535'),
    (change(['classes', 3, 'raw_ids'], 500), 'raw_ids: got 500; expected a list'),
    (change(['classes', 3, 'cost'], 256), "'Dry Bushes': cost: got 256; expected 40 to 219"),
    (change(['classes', 3, 'cost'], 255), 'expected 40 to 219 for group .resistant'),
    (change(['classes', 9, 'cost'], 254), "'Sky': cost: got 254; expected 255 for group"),
    (change(['classes', 3, 'cost'], 'high'), r"classes\[3\] 'Dry Bushes'.cost: got 'high'"),
    (change(['classes', 3, 'group'], 'obstcle'), "'obstcle'.*did you mean 'obstacle'"),
    (change(['classes', 3, 'color'], 'brown'), "color: got 'brown'; expected '#rrggbb'"),
    (change(['classes', 3, 'color'], [1, 2, 256]), 'color: got'),
    (change(['classes', 3, 'colour'], '#000001'), "key 'colour'.*did you mean 'color'"),
    (change(['classes', 3, 'name'], ' x'), 'expected a non-empty text'),
    (change(['classes', 3], 'Rocks'), r'classes\[3\]: got str; expected a mapping'),
    (change(['classes'], []), 'got 0 classes; expected 1 to 255'),
    (change(['ignored_raw_ids'], [100]), 'raw id 100 twice .Trees and ignored_raw_ids'),
    (change(['costs'], {}), "unknown key 'costs'"),
    (change(['name'], 10), 'name: got 10; expected a non-empty text'),
    (change(['categories'], {'two': {'a': ['Trees']}}), r'categories\.two: got no category for L'),
    (change(['categories'], {'two': {'a': FALCON10, 'b': ['Sky']}}), "'Sky' twice .a and b"),
    (change(['categories'], {'two': {'a': [*FALCON10, 'Sea']}}), "got 'Sea'"),
    (change(['unscored'], {'classes': ['Rock']}), "'Rock'.*did you mean 'Rocks'"),
    (change(['unscored'], {'clases': ['Rocks']}), "'clases'.*did you mean 'classes'"),
]


@pytest.mark.parametrize(('edit', 'message'), BROKEN)
def test_refuses_and_names_the_file(tmp_path, edit, message):
    data = load_taxonomy('falcon10').to_dict()
    edit(data)
    path = tmp_path / 'mine.yaml'
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(TaxonomyError, match=rf'mine\.yaml: .*{message}'):
        load_taxonomy(path)


@pytest.mark.parametrize('key', ['id', 'name', 'color', 'raw_ids', 'group', 'cost'])
def test_refuses_missing_class_keys(key):
    data = load_taxonomy('falcon10').to_dict()
    del data['classes'][2][key]
    with pytest.raises(TaxonomyError, match=rf'mine: classes\[2\].*got no {key}'):
        Taxonomy.from_dict(data, origin='mine')


def test_refuses_repeated_yaml_keys(tmp_path):
    path = tmp_path / 'twice.yaml'
    path.write_text('name: a\nname: b\n')
    with pytest.raises(TaxonomyError, match=r"(?s)twice\.yaml.*key 'name' is given 2 times"):
        load_taxonomy(path)


def test_checks_hold_for_taxonomies_made_in_code():
    falcon = load_taxonomy('falcon10')
    with pytest.raises(TaxonomyError, match="'half': class 'Flowers': got id 5; expected id 0"):
        Taxonomy('half', 'a test', falcon.classes[5:])


def test_unknown_names():
    with pytest.raises(TaxonomyError, match=r"got 'falcon8'.*did you mean 'falcon7'"):
        load_taxonomy('falcon8')
    with pytest.raises(TaxonomyError, match=r'gone\.yaml.*expected a readable UTF-8 file'):
        load_taxonomy('gone.yaml')
    with pytest.raises(TaxonomyError, match="got the class 'Sea'"):
        load_taxonomy('falcon10').index('Sea')
