from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch')

from offroad_seg_core.datasets.masks import DatasetError  # noqa: E402
from offroad_seg_core.distillation.config import TeacherConfig  # noqa: E402
from offroad_seg_core.distillation.networks import normalized, open_network  # noqa: E402
from offroad_seg_core.distillation.teachers import Ensemble, Teacher  # noqa: E402
from offroad_seg_core.inference.bundle import Bundle, BundleError, write_bundle  # noqa: E402
from offroad_seg_core.inference.export_head import fuse_bundle  # noqa: E402
from offroad_seg_core.inference.manifest import InputSpec  # noqa: E402
from offroad_seg_core.inference.preprocess import Geometry, Preprocessor  # noqa: E402
from offroad_seg_core.taxonomy import load_taxonomy  # noqa: E402
from offroad_seg_core.training.checkpoint import CheckpointError, load_checkpoint  # noqa: E402
from offroad_seg_core.training.validation import upsample  # noqa: E402

SHIPPED = Path(__file__).parents[3] / 'models' / 'demo_desert'
SPEC = InputSpec(size=(64, 96), mean=(0, 0, 0), std=(1, 1, 1), stride=1)
FALCON = load_taxonomy('falcon10')


def ensemble(*configs, taxonomy='falcon10', stride=4, spec=SPEC):
    target = load_taxonomy(taxonomy)
    return Ensemble([Teacher(config, target) for config in configs], target, spec, stride)


def noise(seed=0, size=(64, 96)):
    return np.random.default_rng(seed).integers(0, 255, (*size, 3)).astype(np.uint8)


def painted(names, size=(32, 48), block=16):
    """Return an image of blocks in the colours of classes, and the ids of the blocks."""
    rows, columns = size[0] // block, size[1] // block
    ids = np.array([FALCON.index(name) for name in names])
    blocks = np.random.default_rng(0).choice(ids, (rows, columns))
    labels = np.kron(blocks, np.ones((block, block), int))
    return FALCON.palette_rgb[labels].copy(), blocks


class TestBundle:
    def test_its_answer_is_known(self, palette_bundle):
        # Frames of 32 x 48 fill the input of 64 x 96: a block is a stored pixel.
        image, blocks = painted(FALCON.names)
        probs = ensemble(TeacherConfig(palette_bundle), stride=32)(image)
        assert probs.shape == (10, 2, 3)
        assert probs.dtype == np.float32
        assert np.array_equal(probs.argmax(axis=0), blocks)
        np.testing.assert_allclose(probs.sum(axis=0), 1, atol=1e-5)
        assert probs.max(axis=0).min() > 0.6  # logits are interpolated across borders

    def test_padding_is_not_part_of_the_answer(self, palette_bundle):
        image, blocks = painted(['Sky', 'Logs', 'Rocks'], (16, 48))  # and as much padding below
        probs = ensemble(TeacherConfig(palette_bundle), stride=32)(image)
        assert probs.shape == (10, 1, 3)
        assert np.array_equal(probs.argmax(axis=0), blocks)

    def test_one_that_ends_in_labels_is_refused(self, palette_bundle, tmp_path):
        bundle = Bundle.load(palette_bundle)
        manifest = bundle.manifest.model_dump(mode='json', exclude={'files'})
        manifest['outputs'] |= {'kind': 'labels', 'stride': 8}
        write_bundle(tmp_path / 'labels', manifest, {'model.onnx': bundle.path / 'model.onnx'})
        with pytest.raises(BundleError, match=r'outputs labels, but a teacher must .*checkpoint'):
            open_network(tmp_path / 'labels')

    def test_one_with_a_fused_head_still_gives_logits(self, tmp_path):
        plain = Bundle.load(SHIPPED)
        fused = fuse_bundle(plain, tmp_path / 'fused', plain.manifest.outputs.stride, {})
        images = noise(size=(128, 192))[None]
        fused_logits, logits = (open_network(p).logits(images) for p in (fused.path, SHIPPED))
        np.testing.assert_allclose(fused_logits, logits, rtol=0, atol=1e-4)

    def test_its_labels_are_those_of_the_frame(self, palette_bundle):
        image, blocks = painted(FALCON.names, (64, 96))
        label_map = ensemble(TeacherConfig(palette_bundle), stride=1).label_map(image)
        assert label_map.dtype == np.uint8
        assert label_map.shape == image.shape[:2]
        assert np.array_equal(label_map[8::16, 8::16], blocks)

    def test_features_need_its_architecture(self, palette_bundle):
        with pytest.raises(BundleError, match=r'architecture None, but PyTorch needs.*checkpoint'):
            open_network(palette_bundle).module()

    def test_its_module_computes_what_its_engine_does(self):
        network = open_network(SHIPPED)
        module = network.module()
        images = noise(size=(128, 192))[None]
        with torch.no_grad():
            logits = module(normalized(torch.from_numpy(images), network.spec))
        np.testing.assert_allclose(logits.numpy(), network.logits(images), atol=0.02)
        assert not module.training
        assert not any(weight.requires_grad for weight in module.parameters())


class TestCheckpoint:
    @staticmethod
    def full_probs(path, image, temperature=1.0, flip=False):
        """Return (C, H, W) probabilities of a frame of the input's size."""
        model = load_checkpoint(path).build()
        spec = load_checkpoint(path).config.model.input_spec(32)
        image = image[:, ::-1].copy() if flip else image
        with torch.no_grad():
            logits = model(normalized(torch.from_numpy(image[None]), spec)) / temperature
        probs = upsample(logits, (64, 96)).softmax(dim=1)[0].numpy()
        return probs[:, :, ::-1] if flip else probs

    def test_weights_and_temperatures(self, checkpoint, make_checkpoint):
        other, image = make_checkpoint(2), noise(1)
        configs = (
            TeacherConfig(checkpoint, weight=3.0, temperature=2.0),
            TeacherConfig(other, temperature=0.5),
        )
        expected = (
            3 * self.full_probs(checkpoint, image, 2.0) + self.full_probs(other, image, 0.5)
        ) / 4
        np.testing.assert_allclose(ensemble(*configs, stride=1)(image), expected, atol=1e-4)

    def test_mirrored_views_are_averaged(self, checkpoint):
        image = noise(2)
        found = ensemble(TeacherConfig(checkpoint, tta='flip'), stride=8)(image)
        # Views are merged at the stride of the logits, which is that of the answer here.
        model, spec = load_checkpoint(checkpoint).build(), InputSpec
        spec = load_checkpoint(checkpoint).config.model.input_spec(32)
        with torch.no_grad():
            plain, mirrored = (
                model(normalized(torch.from_numpy(view.copy()[None]), spec)).softmax(dim=1)[0]
                for view in (image, image[:, ::-1])
            )
        merged = ((plain + mirrored.flip(-1)) / 2).clamp(min=1e-12).log()[None]
        expected = torch.nn.functional.interpolate(
            upsample(merged, (64, 96)).softmax(dim=1), (8, 12), mode='area'
        )
        np.testing.assert_allclose(found, expected[0].numpy(), atol=1e-5)
        assert np.abs(found - ensemble(TeacherConfig(checkpoint), stride=8)(image)).max() > 0.01

    def test_the_student_s_first_weights_do_not_change(self, checkpoint):
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        ensemble(TeacherConfig(checkpoint))(noise())
        assert torch.equal(torch.rand(3), expected)

    def test_missing_file(self, tmp_path):
        with pytest.raises(CheckpointError, match=r'none\.ckpt: no such file'):
            open_network(tmp_path / 'none.ckpt')


class TestTaxonomies:
    def test_many_to_one_adds_up(self, checkpoint):
        image = noise(3)
        fine = ensemble(TeacherConfig(checkpoint))(image)
        coarse = ensemble(
            TeacherConfig(checkpoint, mapping='by_group'), taxonomy='traversability7'
        )(image)
        groups = load_taxonomy('traversability7').names
        for group, plane in zip(groups, coarse, strict=True):
            members = [i for i, name in enumerate(FALCON.groups) if name == group]
            np.testing.assert_allclose(plane, fine[members].sum(axis=0), atol=1e-5)

    def test_where_the_student_has_no_class_nothing_is_said(self, palette_bundle):
        image, blocks = painted(['Logs', 'Rocks', 'Sky'])
        config = TeacherConfig(palette_bundle, mapping='by_name')
        probs = ensemble(config, taxonomy='falcon7', stride=32)(image)
        seven = load_taxonomy('falcon7')
        silent = blocks == FALCON.index('Logs')
        assert (probs[:, silent] == 0).all()
        expected = [seven.index(FALCON.names[block]) for block in blocks[~silent]]
        assert np.array_equal(probs.argmax(axis=0)[~silent], expected)

    def test_a_class_is_averaged_over_those_that_can_name_it(
        self, palette_bundle, make_palette_bundle, tmp_path, caplog
    ):
        seven = make_palette_bundle(tmp_path / 'seven', 'falcon7')
        image, blocks = painted(['Logs', 'Sky'])
        coarse = ensemble(TeacherConfig(seven), stride=32)
        assert 'no teacher can name Ground Clutter, Flowers, Logs; the stud' in caplog.text
        assert coarse.classes.known == (0, 1, 2, 3, 7, 8, 9)
        caplog.clear()
        both = ensemble(TeacherConfig(palette_bundle), TeacherConfig(seven), stride=32)
        assert not caplog.text
        assert len(both.classes.known) == 10
        probs = both(image)
        logs = blocks == FALCON.index('Logs')
        # One says Logs, the other, which has no such class, something else: one against one half.
        assert probs[FALCON.index('Logs'), logs].min() > 0.5
        assert probs[FALCON.index('Sky'), ~logs].min() > 0.6
        np.testing.assert_allclose(probs.sum(axis=0), 1, atol=1e-5)

    def test_other_classes_need_a_mapping(self, make_palette_bundle, tmp_path):
        rugd = make_palette_bundle(tmp_path / 'rugd', 'rugd')
        message = r'teacher .*rugd: no class of rugd .*falcon10; set mapping to rugd_to_falcon10'
        with pytest.raises(DatasetError, match=message):
            ensemble(TeacherConfig(rugd))
        ensemble(TeacherConfig(rugd, mapping='rugd_to_falcon10'))


def test_a_teacher_is_asked_as_the_robot_asks_it(palette_bundle):
    """The frame is resized by the robot's own code."""
    teacher = Teacher(TeacherConfig(palette_bundle), FALCON)
    image = noise(4, (40, 50))
    geometry = Geometry.fit((40, 50), 0, teacher.network.spec)
    batch = Preprocessor(teacher.network.spec).prepare(image, 'rgb', geometry)
    logits = torch.from_numpy(teacher.network.logits(batch))
    height, width = geometry.content_size
    expected = upsample(logits, (64, 96))[0, :, :height, :width].softmax(dim=0).numpy()
    np.testing.assert_allclose(teacher.probabilities(image, (height, width)), expected, atol=1e-5)
