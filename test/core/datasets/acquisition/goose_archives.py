"""A tiny GOOSE and GOOSE-Ex: the real names and folders, with files of a few bytes."""

import io
import zipfile

GOOSE_TRAIN = '2022-08-30_siegertsbrunn_feldwege__0251_1661860827964672506'
GOOSE_VAL = '2023-05-17_neubiberg_sunny__0379_1684329756480736211'
EX_TRAIN = 'alice_scenario01_sequence14_0003_1691670612470132000'
TABLE = b'class_name,label_key,has_instance,hex\nundefined,0,0,#000000\n'


def frame(split, scenario, base, camera, extra_cameras=()):
    files = {f'images/{split}/{scenario}/{base}_{camera}.png': f'{base} {camera}'.encode()}
    for other in extra_cameras:
        files[f'images/{split}/{scenario}/{base}_{other}.png'] = f'{base} {other}'.encode()
    if split != 'test':
        for kind in ('labelids', 'color', 'instanceids'):
            files[f'labels/{split}/{scenario}/{base}_{kind}.png'] = f'{base} {kind}'.encode()
    return files


def about(text):
    return {
        'LICENSE': b'Attribution-ShareAlike 4.0 International',
        'CHANGELOG': text,
        'goose_label_mapping.csv': TABLE,
    }


def tiny_goose():
    """Return archive name -> {member: content}."""
    nir = ('windshield_nir',)
    return {
        'goose_2d_train.zip': {
            **about(b'goose'),
            **frame('train', '2022-08-30_feldwege', GOOSE_TRAIN, 'windshield_vis', nir),
        },
        'goose_2d_val.zip': {
            **about(b'goose'),
            **frame('val', '2023-05-17_neubiberg_sunny', GOOSE_VAL, 'windshield_vis', nir),
        },
        'gooseEx_2d_train.zip': {
            **about(b'goose-ex'),
            **frame('train', 'alice_scenario01', EX_TRAIN, 'camera_left'),
        },
        'gooseEx_2d_test.zip': {
            **about(b'goose-ex'),
            **frame('test', 'spot_scenario06', 'spot_scenario06_sequence03_0000_17', 'front'),
        },
    }


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        for name, content in files.items():
            # A fixed date: the same files are the same archive.
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()
