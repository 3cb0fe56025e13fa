from functools import partial
import math
import os
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip('torch')

from offroad_seg_core.config import ConfigError, load_config  # noqa: E402
from offroad_seg_core.distillation.losses import (  # noqa: E402
    DISTILLATION_LOSSES,
    Answers,
    DistillationTerm,
    channel_wise_divergence,
    cwd_of,
    dist_of,
    feature_distance,
    kl_of,
)

ROOT = Path(__file__).parents[3]
EVERY = [pytest.param(function, id=name) for name, function in DISTILLATION_LOSSES.items()]


def probs_of(*pixels):
    """Return (1, C, 1, W) of the probabilities of each pixel."""
    return torch.tensor(pixels, dtype=torch.float64).T[None, :, None, :]


def answers_of(student, teacher):
    """Return answers from the probabilities of each pixel."""
    return Answers.of(probs_of(*student).log(), probs_of(*teacher))


def random_answers(seed=0, shape=(2, 4, 5, 6)):
    """Return logits that want gradients, and soft labels of which some say nothing."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64)
    soft = (2 * torch.randn(shape, generator=generator, dtype=torch.float64)).softmax(dim=1)
    soft[0, :, :2] = 0
    return logits.requires_grad_(), soft


class TestKl:
    STUDENT, TEACHER = (0.5, 0.5), (0.75, 0.25)
    VALUE = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)

    def test_by_hand(self):
        answers = answers_of([self.STUDENT], [self.TEACHER])
        assert kl_of(answers, 1.0).item() == pytest.approx(self.VALUE)
        # At T = 2 the teacher says sqrt(0.75) : sqrt(0.25), and the loss is four times the KL.
        high = math.sqrt(3) / (math.sqrt(3) + 1)
        expected = 4 * (high * math.log(2 * high) + (1 - high) * math.log(2 - 2 * high))
        assert kl_of(answers, 2.0).item() == pytest.approx(expected)

    def test_is_the_mean_over_the_pixels_with_a_teacher(self):
        answers = answers_of([self.STUDENT] * 3, [self.TEACHER, (0.5, 0.5), (0.0, 0.0)])
        assert kl_of(answers, 1.0).item() == pytest.approx(self.VALUE / 2)

    def test_the_gradient_of_one_pixel_is_the_difference_of_the_probabilities(self):
        logits = probs_of(self.STUDENT).log().requires_grad_()
        kl_of(Answers.of(logits, probs_of(self.TEACHER)), 1.0).backward()
        assert logits.grad.flatten().tolist() == pytest.approx([-0.25, 0.25])


class TestCwd:
    def test_by_hand(self):
        answers = answers_of([(0.5, 0.5)] * 2, [(0.8, 0.2), (0.4, 0.6)])
        # Over the two places: class 0 has 0.8 : 0.4, class 1 has 0.2 : 0.6; the student 1 : 1.
        first = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
        second = 1 / 4 * math.log(1 / 2) + 3 / 4 * math.log(3 / 2)
        assert cwd_of(answers, 1.0).item() == pytest.approx((first + second) / 2)

    def test_places_without_a_teacher_do_not_take_part(self):
        logits, soft = random_answers(1, (1, 3, 1, 6))
        soft[..., 4:] = 0
        whole = cwd_of(Answers.of(logits, soft), 4.0)
        part = cwd_of(Answers.of(logits[..., :4], soft[..., :4]), 4.0)
        assert whole.item() == pytest.approx(part.item())

    def test_scores_of_a_channel_may_be_shifted(self):
        generator = torch.Generator().manual_seed(3)
        student, teacher = torch.randn(2, 2, 3, 4, 5, generator=generator)
        valid = torch.ones(2, 4, 5, dtype=torch.bool)
        loss = channel_wise_divergence(student, teacher, valid)
        shift = torch.tensor([1.0, -2, 3]).view(1, 3, 1, 1)
        torch.testing.assert_close(
            channel_wise_divergence(student + shift, teacher - shift, valid), loss
        )
        zero = channel_wise_divergence(teacher + shift, teacher, valid)
        assert zero.item() == pytest.approx(0, abs=1e-6)


class TestDist:
    def test_by_hand_over_classes(self):
        answers = answers_of([(0.1, 0.2, 0.7)], [(0.7, 0.2, 0.1)])
        mean = 1 / 3
        product = 2 * (0.7 - mean) * (0.1 - mean) + (0.2 - mean) ** 2
        square = (0.7 - mean) ** 2 + (0.2 - mean) ** 2 + (0.1 - mean) ** 2
        assert dist_of(answers, intra=0.0).item() == pytest.approx(1 - product / square)

    def test_against_numpy(self):
        logits, soft = random_answers(2)
        answers = Answers.of(logits, soft)
        student = logits.detach().softmax(dim=1).movedim(1, -1)[answers.valid].numpy()
        teacher = soft.movedim(1, -1)[answers.valid].numpy()
        inter = [1 - np.corrcoef(s, t)[0, 1] for s, t in zip(student, teacher, strict=True)]
        intra = [1 - np.corrcoef(s, t)[0, 1] for s, t in zip(student.T, teacher.T, strict=True)]
        assert dist_of(answers, intra=0.0).item() == pytest.approx(np.mean(inter))
        assert dist_of(answers, inter=0.0).item() == pytest.approx(np.mean(intra))
        both = dist_of(answers, inter=0.5, intra=2.0).item()
        assert both == pytest.approx(0.5 * np.mean(inter) + 2 * np.mean(intra))

    def test_a_teacher_that_knows_nothing_teaches_nothing(self):
        logits, soft = random_answers(3)
        loss = dist_of(Answers.of(logits, torch.full_like(soft, 0.25)))
        loss.backward()
        assert loss.item() == 0
        assert logits.grad.abs().max() == 0


class TestFeatures:
    def test_by_hand(self):
        # Mean 3, variance 4: the teacher's features count as -1 and 1.
        teacher = torch.tensor([1.0, 5.0]).view(1, 1, 1, 2)
        student = torch.tensor([0.0, 3.0]).view(1, 1, 1, 2)
        assert feature_distance(student, teacher).item() == pytest.approx((1 + 4) / 2)

    def test_channels_count_alike_whatever_their_scale(self):
        generator = torch.Generator().manual_seed(0)
        student, teacher = torch.randn(2, 2, 3, 4, 5, generator=generator, dtype=torch.float64)
        scale = torch.tensor([1e-2, 1.0, 1e3]).view(1, 3, 1, 1)
        torch.testing.assert_close(
            feature_distance(student, teacher * scale + 5), feature_distance(student, teacher)
        )

    def test_gradients_go_into_the_student_alone(self):
        student, teacher = (torch.randn(2, 3, 4, 5, requires_grad=True) for _ in range(2))
        feature_distance(student, teacher).backward()
        assert student.grad.abs().min() > 0
        assert teacher.grad is None

    def test_a_dead_channel_is_finite(self):
        assert feature_distance(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)).item() == 0


@pytest.mark.parametrize('loss', EVERY)
class TestEveryLoss:
    @pytest.mark.parametrize('temperature', [1.0, 4.0])
    def test_identical_logits_cost_nothing(self, loss, temperature):
        logits, _ = random_answers(4)
        value = loss(Answers.of(logits, logits.softmax(dim=1)), temperature=temperature)
        value.backward()
        assert value.item() == pytest.approx(0, abs=1e-9)
        assert logits.grad.abs().max() < 1e-8

    def test_silence_is_zero_with_zero_gradient(self, loss):
        logits, soft = random_answers(5)
        value = loss(Answers.of(logits.float(), torch.zeros_like(soft)))
        value.backward()
        assert value.item() == 0
        assert logits.grad.abs().max() == 0

    def test_gradients_go_into_the_student_alone(self, loss):
        logits, soft = random_answers(6)
        teacher = soft.clone().requires_grad_()
        loss(Answers.of(logits, teacher)).backward()
        assert teacher.grad is None
        assert logits.grad[0, :, :2].abs().max() == 0
        assert logits.grad[1].abs().min() > 0

    def test_gradients_are_right(self, loss):
        logits, soft = random_answers(7, (2, 3, 3, 2))
        assert torch.autograd.gradcheck(lambda x: loss(Answers.of(x, soft)), (logits,))

    def test_more_of_the_teacher_costs_less(self, loss):
        logits, soft = random_answers(8)
        mixed = [
            loss(Answers.of((1 - a) * logits + a * soft.clamp(min=1e-8).log(), soft)).item()
            for a in (0.0, 0.5, 1.0)
        ]
        assert mixed[0] > mixed[1] > mixed[2] >= -1e-12

    def test_only_classes_that_the_teacher_can_name(self, loss):
        logits, soft = random_answers(9)
        soft[:, 2] = 0
        soft = soft / soft.sum(dim=1, keepdim=True).clamp(min=1e-9)
        known = torch.tensor([True, True, False, True])
        value = loss(Answers.of(logits, soft, known))
        without = loss(Answers.of(logits[:, known], soft[:, known]))
        assert value.item() == pytest.approx(without.item())
        value.backward()
        assert logits.grad[:, 2].abs().max() == 0

    @pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
    def test_low_precision_is_computed_in_float32(self, loss, dtype):
        logits, soft = random_answers(10)
        logits, soft = (10 * logits.detach()).to(dtype), soft.half()
        value = loss(Answers.of(logits, soft))
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, loss(Answers.of(logits.float(), soft.float())))

    def test_extreme_answers_stay_finite(self, loss):
        logits = torch.tensor([1e4, -1e4, 0.0]).view(1, 3, 1, 1).repeat(1, 1, 2, 2)
        logits.requires_grad_()
        soft = torch.zeros(1, 3, 2, 2)
        soft[:, 1] = 1
        value = loss(Answers.of(logits, soft))
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(logits.grad).all()


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r'\(1, 3, 2, 2\).*\(1, 3, 4, 4\).*stride of the logits'):
        Answers.of(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 4, 4))


def test_what_a_configuration_may_name():
    assert load_config(DistillationTerm, {'name': 'kl', 'options': {'temperature': 2}}).weight == 1
    with pytest.raises(
        ConfigError, match="no loss is named 'dice'; expected one of kl, cwd, dist"
    ):
        load_config(DistillationTerm, {'name': 'dice'})
    with pytest.raises(ConfigError, match=r"no option answers; known: \['inter', 'intra', 'temp"):
        load_config(DistillationTerm, {'name': 'dist', 'options': {'answers': 2}})


SCRIPT = """
import sys
import torch
from torch import distributed
from offroad_seg_core.distillation import losses

rank, folder = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group(
    'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2
)
data = torch.load(f'{folder}/data.pt', weights_only=True)
results = {}
for name, function in losses.DISTILLATION_LOSSES.items():
    for part in ('mixed', 'silent', 'one silent'):
        weight = data['weight'].clone().requires_grad_()
        logits = (data['logits'] * weight)[rank::2]
        total = function(losses.Answers.of(logits, data[part][rank::2]))
        total.backward()
        distributed.all_reduce(weight.grad)  # as DistributedDataParallel does
        results[f'{name} {part}'] = (total.detach(), weight.grad / 2)
weight = data['weight'].clone().requires_grad_()
total = losses.feature_distance((data['logits'] * weight)[rank::2], data['mixed'][rank::2])
total.backward()
distributed.all_reduce(weight.grad)
results['features'] = (total.detach(), weight.grad / 2)
torch.save(results, f'{folder}/{rank}.pt')
distributed.destroy_process_group()  # gloo's threads abort some processes that leave it alive
"""


def test_two_processes_are_one_with_both_batches(tmp_path):
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(4, 5, 6, 7, generator=generator, dtype=torch.float64).softmax(dim=1)
    mixed[0, :, :, :4] = 0  # the processes have different numbers of pixels with a teacher
    one_silent = mixed.clone()
    one_silent[1::2] = 0
    data = {
        'logits': torch.randn(4, 5, 6, 7, generator=generator, dtype=torch.float64),
        'weight': torch.randn(5, 1, 1, generator=generator, dtype=torch.float64),
        'mixed': mixed,
        'silent': torch.zeros_like(mixed),
        'one silent': one_silent,
    }
    torch.save(data, tmp_path / 'data.pt')
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', SCRIPT, str(rank), str(tmp_path)],
            env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)},
        )
        for rank in range(2)
    ]
    assert [process.wait(100) for process in processes] == [0, 0]
    found = [torch.load(tmp_path / f'{rank}.pt', weights_only=True) for rank in range(2)]
    functions = {
        f'{name} {part}': partial(lambda f, part, x: f(Answers.of(x, data[part])), function, part)
        for name, function in DISTILLATION_LOSSES.items()
        for part in ('mixed', 'silent', 'one silent')
    }
    functions['features'] = partial(feature_distance, teacher=data['mixed'])
    for name, function in functions.items():
        weight = data['weight'].clone().requires_grad_()
        expected = function(data['logits'] * weight)
        expected.backward()
        for total, gradient in (results[name] for results in found):
            torch.testing.assert_close(total, expected.detach(), msg=name)
            torch.testing.assert_close(gradient, weight.grad, msg=name)
