"""The model card says what the manifest says."""

import pytest
import yaml

from offroad_seg_core.inference.bundle import Bundle, BundleError, write_bundle


@pytest.fixture
def rewrite(palette_bundle, tmp_path):
    """Return a function that writes the palette bundle with other sections; gives its card."""

    def write(pictures=(), **sections):
        old = Bundle.load(palette_bundle)
        manifest = old.manifest.model_dump(mode='json', exclude={'files', 'format_version'})
        names = [entry['file'] for entry in {**manifest, **sections}['models']]
        files = dict.fromkeys([*names, *pictures], palette_bundle / 'model.onnx')
        bundle = write_bundle(tmp_path / 'bundle', {**manifest, **sections}, files)
        return (bundle.path / 'README.md').read_text()

    return write


def test_a_bundle_without_figures_says_so(rewrite):
    card = rewrite()
    assert '10 classes of falcon10' in card
    assert 'It sees 64x96 pixels' in card
    assert '## Accuracy\n\nnot measured' in card
    assert 'Training' not in card.replace('its training', '')
    assert '| model.onnx | fp32 | ' in card


def test_every_figure_of_the_manifest(rewrite):
    loss = {'miou_before': 0.65, 'miou_after': 0.645, 'class_drops': {'Sky': -0.001, 'Logs': 0.02}}
    card = rewrite(
        metrics={
            'measured_at_input_size': [512, 896],
            'miou_present': 0.6489,
            'miou': 0.5,
            'false_safe_rate': 0.125,
            'iou': {'Sky': 0.98851, 'Logs': None},
            'quantization': {
                'num_frames': 60,
                'limits': {'max_miou_drop': 0.01, 'max_dangerous_drop': 0.03},
                'int8': {'openvino': {**loss, 'unseen': ['Trees']}},
                'bf16': {},
            },
        },
        models=[
            {'precision': 'fp32', 'file': 'model.onnx'},
            {'precision': 'int8', 'file': 'model_int8.onnx', 'is_checked': True},
            {'precision': 'fp16', 'file': 'half.onnx'},
        ],
        provenance={
            'license': 'Apache-2.0',
            'training': {
                'command': 'distill.py --config a.yaml',
                'step': 7,
                'git_commit': 'abc',
                'config': {
                    'dataset': {'kind': 'world'},
                    'init_checkpoint': None,
                    'distillation': {'teachers': [{'path': 'runs/a'}]},
                },
            },
        },
    )
    assert 'at 512x896, float32' in card
    assert '* mIoU over the classes in the truth: 0.649\n' in card
    assert '* false safe: costly ground that was called free: 0.125\n' in card
    assert '| Sky | unknown | 255 | 0.989 |' in card
    assert '| Logs | obstacle | 254 | – |' in card
    assert '| int8 | openvino | 0.650 | 0.645 | Logs (+0.020) |' in card
    assert '* int8 may lose of the mIoU: 0.010\n' in card
    assert '* in no frame, so that their loss is unknown: Trees\n' in card
    rows = [line for line in card.splitlines() if '.onnx' in line]
    assert [row.rsplit('| ', 1)[1] for row in rows] == [
        'the reference |', 'within limits, see below |', 'not checked |',
    ]  # fmt: skip
    assert '`distill.py --config a.yaml`, 7 steps; commit abc.' in card
    shown = yaml.safe_load(card.split('## Training')[1].split('```')[1])
    assert shown == {'dataset': {'kind': 'world'}, 'teachers': [{'path': 'runs/a'}]}
    assert 'Apache-2.0' in card


def test_pictures_are_told(rewrite):
    card = rewrite(pictures=['frames/00.jpg', 'frames/01.jpg'])
    assert 'It holds 2 pictures of its validation data' in card
    assert 'pictures' not in rewrite()


def test_no_file_may_take_its_name(palette_bundle, tmp_path):
    old = Bundle.load(palette_bundle)
    manifest = old.manifest.model_dump(mode='json', exclude={'files', 'format_version'})
    files = dict.fromkeys(('model.onnx', 'README.md'), palette_bundle / 'model.onnx')
    with pytest.raises(BundleError, match=r"'README\.md', which every bundle has of its own"):
        write_bundle(tmp_path / 'bundle', manifest, files)
    assert not (tmp_path / 'bundle').exists()
