import pytest

torch = pytest.importorskip('torch')

from offroad_seg_core.config import ConfigError  # noqa: E402
from offroad_seg_core.distillation.config import FeatureConfig, TeacherConfig  # noqa: E402
from offroad_seg_core.distillation.features import FeatureMatching, LayerTap  # noqa: E402
from offroad_seg_core.distillation.losses import (  # noqa: E402
    channel_wise_divergence,
    feature_distance,
)
from offroad_seg_core.distillation.networks import normalized, open_network  # noqa: E402
from offroad_seg_core.models import create_model  # noqa: E402


class Several(torch.nn.Module):
    """Returns features of two sizes, as encoders do."""

    input_multiple = 2

    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 4, 2, stride=2)
        self.encoder = torch.nn.Module()
        self.encoder.forward = lambda x: [x, x[:, :3, ::2, ::2]]
        self.pool = torch.nn.Flatten()

    def forward(self, images):
        features = self.encoder(self.stem(images))
        self.pool(features[0])
        return features[-1]


class TestLayerTap:
    @pytest.mark.parametrize(
        ('name', 'shape'),
        [('stem', (1, 4, 4, 6)), ('encoder[0]', (1, 4, 4, 6)), ('encoder[-1]', (1, 3, 2, 3))],
    )
    def test_keeps_what_the_layer_returned(self, name, shape):
        network = Several()
        tap = LayerTap(network, name, 'the student')
        network(torch.rand(1, 3, 8, 12))
        assert tap.take().shape == shape

    @pytest.mark.parametrize(
        ('name', 'message'),
        [
            (
                'stern',
                r"the student has no layer 'stern'; expected one such as stem, encoder, pool",
            ),
            ('encoder', r"layer 'encoder' returns list, expected features \(N, C, h, w\)"),
            ('encoder[2]', r"layer 'encoder\[2\]' returns 2 tensors"),
            ('stem[0]', r"layer 'stem\[0\]' returns 1 tensors"),
            ('pool', r"layer 'pool' returns \(1, 96\), expected features"),
        ],
    )
    def test_wrong_layers(self, name, message):
        def run():
            network = Several()
            LayerTap(network, name, 'the student')
            network(torch.rand(1, 3, 8, 12))

        with pytest.raises(ConfigError, match=message):
            run()


class TestFeatureMatching:
    LAYERS = (
        FeatureConfig('detail5', 'context4', weight=2.0),
        FeatureConfig('context3', 'detail4', loss='cwd'),
    )

    @pytest.fixture
    def student(self):
        torch.manual_seed(3)
        return create_model('ddrnet23_slim', 10).train()

    @pytest.fixture
    def matching(self, student, checkpoint):
        return FeatureMatching(self.LAYERS, [TeacherConfig(checkpoint)], student)

    def test_by_hand(self, student, matching, checkpoint):
        images = torch.randint(0, 255, (2, 64, 96, 3), dtype=torch.uint8)
        network = open_network(checkpoint)
        teacher = network.module()
        taps = [
            (
                LayerTap(student, entry.student_layer, 's'),
                LayerTap(teacher, entry.teacher_layer, 't'),
            )
            for entry in self.LAYERS
        ]
        student(normalized(images, network.spec))
        losses = matching(images)
        with torch.no_grad():
            teacher(normalized(images, network.spec))
        (own, other), (own_cwd, other_cwd) = ((a.take(), b.take()) for a, b in taps)
        assert [tuple(p.weight.shape) for p in matching.projectors] == [
            (256, 128, 1, 1), (64, 128, 1, 1),
        ]  # fmt: skip
        projected = torch.nn.functional.interpolate(
            matching.projectors[0](own), other.shape[-2:], mode='bilinear', align_corners=False
        )
        expected = feature_distance(projected, other)
        torch.testing.assert_close(losses['features_0'], expected)
        projected = torch.nn.functional.interpolate(
            matching.projectors[1](own_cwd), other_cwd.shape[-2:], mode='bilinear'
        )
        everywhere = torch.ones(2, *other_cwd.shape[-2:], dtype=torch.bool)
        expected = channel_wise_divergence(projected, other_cwd, everywhere)
        torch.testing.assert_close(losses['features_1'], expected)
        total = matching.weighted(losses)
        torch.testing.assert_close(total, 2 * losses['features_0'] + losses['features_1'])

    def test_only_the_student_and_the_projectors_learn(self, student, matching):
        statistics = {name: value.clone() for name, value in student.named_buffers()}
        teacher = matching._teachers[0][0]
        before = {name: value.clone() for name, value in teacher.state_dict().items()}
        images = torch.randint(0, 255, (2, 64, 96, 3), dtype=torch.uint8)
        for name, value in student.named_buffers():  # looking for the channels changed nothing
            assert torch.equal(value, statistics[name]), name
        assert student.training
        student(torch.rand(2, 3, 64, 96))
        matching.weighted(matching(images)).backward()
        assert all(p.weight.grad.abs().max() > 0 for p in matching.projectors)
        assert student.stem[0].weight.grad.abs().max() > 0
        assert all(weight.grad is None for weight in teacher.parameters())
        after = teacher.state_dict()
        assert all(torch.equal(after[name], value) for name, value in before.items())

    def test_it_holds_no_weights_but_the_projectors(self, matching):
        assert set(matching.state_dict()) == {
            f'projectors.{n}.{kind}' for n in (0, 1) for kind in ('weight', 'bias')
        }
