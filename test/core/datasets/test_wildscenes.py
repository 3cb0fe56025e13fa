import pytest

from offroad_seg_core.datasets.masks import DatasetError
from offroad_seg_core.datasets.wildscenes import WildScenesConfig
from offroad_seg_core.taxonomy import load_taxonomy


def names(frames):
    return [(item.environment, item.stem) for item in frames.files]


@pytest.fixture
def wildscenes(make_tree):
    for sequence, stem in (('K-01', '1-1'), ('V-01', '1-1'), ('V-01', '2-2')):
        make_tree(f'{sequence}/image/{stem}.png')
        make_tree(f'{sequence}/label/{stem}.png')
        root = make_tree(f'{sequence}/indexLabel/{stem}.png', 2)
    return root


def test_sequences(wildscenes):
    config = WildScenesConfig('wildscenes', wildscenes, validation=('K-01',))
    taxonomy = load_taxonomy('wildscenes')
    assert names(config.frames('validation', taxonomy)) == [('K-01', '1-1')]
    train = config.frames('train', taxonomy)
    assert names(train) == [('V-01', '1-1'), ('V-01', '2-2')]
    assert (train.read(0)[1] == taxonomy.index('dirt')).all()


def test_published_lists(wildscenes):
    for name, frames in (
        ('train', ('K-01/image/1-1', 'V-01/image/2-2')),
        ('val', ('V-01/image/1-1',)),
    ):
        rows = [f'x,/WildScenes2d/{frame}.png,y' for frame in frames]
        (wildscenes / f'{name}.csv').write_text('\n'.join(['id,im_path,label_path', *rows]))
    config, taxonomy = WildScenesConfig('wildscenes', wildscenes), load_taxonomy('wildscenes')
    assert names(config.frames('train', taxonomy)) == [('K-01', '1-1'), ('V-01', '2-2')]
    assert names(config.frames('validation', taxonomy)) == [('V-01', '1-1')]
    (wildscenes / 'val.csv').write_text('id,path\n')
    with pytest.raises(DatasetError, match=r"val\.csv: got the columns \['id', 'path'\], exp"):
        config.frames('train', taxonomy)


def test_frames_without_a_partner_can_be_left_out(wildscenes, make_tree, caplog):
    make_tree('V-01/image/3-3.png')
    make_tree('K-01/indexLabel/4-4.png', 2)
    taxonomy = load_taxonomy('wildscenes')
    for split, rows in (('train', ('V-01/image/3-3', 'V-01/image/1-1')), ('val', ())):
        lines = ['im_path', *(f'{row}.png' for row in rows)]
        (wildscenes / f'{split}.csv').write_text('\n'.join(lines))
    for validation in (('K-01',), None):
        config = WildScenesConfig(
            'wildscenes', wildscenes, validation, exclude=('V-01/3-3', '*/4-4')
        )
        assert ('V-01', '3-3') not in names(config.frames('train', taxonomy))
    assert 'fits no frame' not in caplog.text
    idle = WildScenesConfig('wildscenes', wildscenes, ('K-01',), exclude=('*/?-?', 'X-01/*'))
    with pytest.raises(DatasetError, match='no frames'):
        idle.frames('train', taxonomy)
    assert 'exclude: X-01/* fits no frame; frames are named like K-01/1-1' in caplog.text
