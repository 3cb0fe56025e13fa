import subprocess
import sys

import numpy as np
from pydantic import TypeAdapter
import pytest

albumentations = pytest.importorskip('albumentations')

from offroad_seg_core.config import ConfigError, dump_config, load_config  # noqa: E402
from offroad_seg_core.datasets.augmentation import (  # noqa: E402
    AugmentConfig,
    create_augmentation,
)
from offroad_seg_core.datasets.augmentation.pipeline import Pipeline, PipelineConfig  # noqa: E402
from offroad_seg_core.datasets.augmentation.views import (  # noqa: E402
    RandomViews,
    ViewsConfig,
    augment,
)

CROP = (64, 96)


def rng(*seed):
    return np.random.default_rng(seed or 0)


def refuse(*transforms, **keys):
    data = {'kind': 'pipeline', 'transforms': list(transforms), **keys}
    with pytest.raises(ConfigError) as caught:
        load_config(PipelineConfig, data)
    return str(caught.value)


class TestChoice:
    def test_no_kind_means_views(self, spec):
        config = TypeAdapter(AugmentConfig).validate_python({'rotation_deg': 5.0})
        assert config == ViewsConfig(rotation_deg=5.0)
        assert isinstance(create_augmentation(config, CROP, spec), RandomViews)

    def test_kind_pipeline(self, spec):
        adapter = TypeAdapter(AugmentConfig)
        config = adapter.validate_python({'kind': 'pipeline', 'preset': 'goose_mmseg'})
        assert isinstance(create_augmentation(config, CROP, spec), Pipeline)
        assert adapter.validate_python(dump_config(config)) == config

    def test_views_are_what_augment_makes(self, spec, frame):
        views = create_augmentation(ViewsConfig(), CROP, spec)
        expected = augment(*frame, CROP, spec, ViewsConfig(), rng(3))
        for a, b in zip(views(*frame, rng(3)), expected, strict=True):
            assert np.array_equal(a, b)

    def test_strength_of_views_raises_photometric_bounds(self, spec, frame):
        def change(strength):
            config = load_config(
                ViewsConfig,
                {'scale_range': [1, 1], 'rotation_deg': 0, 'flip_probability': 0},
            )
            views = create_augmentation(config, (96, 157), spec, strength)
            still = create_augmentation(config, (96, 157), spec, 0.0)
            return np.mean(
                [
                    np.abs(views(*frame, rng(n))[0].astype(int) - still(*frame, rng(n))[0]).mean()
                    for n in range(12)
                ]
            )

        assert change(0.0) == 0 < change(1.0) < change(2.0)

    def test_negative_strength(self, spec):
        with pytest.raises(ValueError, match='got -1; expected 0 or more'):
            create_augmentation(ViewsConfig(), CROP, spec, -1)

    def test_importing_the_package_does_not_load_albumentations(self):
        code = (
            'import sys, offroad_seg_core.datasets.augmentation as a\n'
            'a.ViewsConfig(); print("albumentations" in sys.modules, "torch" in sys.modules)\n'
            'import os; print(os.environ["NO_ALBUMENTATIONS_UPDATE"])'
        )
        result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
        assert result.stdout.split() == ['False', 'False', '1'], result.stderr


class TestConfig:
    def test_close_names(self):
        assert "did you mean 'HorizontalFlip'?" in refuse({'name': 'HorizontalFlipp'})
        got = refuse({'name': 'HorizontalFlip'}, {'name': 'ColorJitter', 'brighness': 0.3})
        assert 'transforms[1] (ColorJitter): unknown option' in got
        assert "did you mean 'brightness'?" in got

    def test_options_are_listed_where_none_is_close(self):
        got = refuse({'name': 'HorizontalFlip', 'zzz': 1})
        assert got.endswith("unknown option 'zzz'; its options are p")

    def test_names_are_listed_where_none_is_close(self):
        assert 'known are AdaINTransfer, ' in refuse({'name': 'zzzzzz'})

    def test_values_are_checked_at_once(self):
        got = refuse({'name': 'RandomGamma', 'gamma_limit': 'much'})
        assert 'transforms[0] (RandomGamma): gamma_limit' in got
        assert 'pydantic' not in got
        assert '\n' not in got

    def test_probability_above_one(self):
        assert 'less than or equal to 1' in refuse({'name': 'HorizontalFlip', 'p': 1.5})

    def test_inside_containers(self):
        inner = {'name': 'Sequential', 'transforms': [{'name': 'Blurr'}]}
        got = refuse({'name': 'OneOf', 'transforms': [inner]})
        assert 'transforms[0] (OneOf).transforms[0] (Sequential).transforms[0]: ' in got
        assert "did you mean 'Blur'?" in got

    @pytest.mark.parametrize('children', [None, [], 'Blur'])
    def test_containers_need_a_list(self, children):
        assert 'expected a list' in refuse({'name': 'OneOf', 'transforms': children})

    @pytest.mark.parametrize(
        ('name', 'fix'),
        [
            ('Normalize', 'the network normalises'),
            ('ToFloat', 'the network normalises'),
            ('FDA', 'use FourierAdaptation'),
            ('MaskDropout', 'cannot keep an image and its labels together'),
            ('Morphological', 'cannot keep an image and its labels together'),
        ],
    )
    def test_what_does_not_belong(self, name, fix):
        assert fix in refuse({'name': name})

    @pytest.mark.parametrize(
        'option', [{'mask_interpolation': 1}, {'fill_mask': 0}, {'fill': 0}, {'border_mode': 4}]
    )
    def test_nobody_touches_how_labels_are_made(self, option):
        assert 'expected it left out' in refuse({'name': 'Affine', **option})

    def test_labels_are_never_averaged(self):
        got = refuse({'name': 'RandomScale', 'area_for_downscale': 'image_mask'})
        assert 'expected image or null' in got

    def test_dropouts_may_ignore_but_not_relabel(self):
        assert 'expected null' in refuse({'name': 'CoarseDropout', 'fill_mask': 3})
        load_config(
            PipelineConfig,
            {'kind': 'pipeline', 'transforms': [{'name': 'CoarseDropout', 'fill_mask': 255}]},
        )

    def test_nothing_at_all(self):
        assert 'expected at least one of the two' in refuse()

    def test_unknown_preset(self):
        got = refuse(preset='goose_mmsegg')
        assert "no preset is named 'goose_mmsegg'; did you mean 'goose_mmseg'?" in got
        assert 'expected one of falcon_distillation' in refuse(preset='qqqq')

    def test_an_entry_that_is_no_mapping_with_a_name(self):
        assert 'expected {name: ...' in refuse({'p': 0.5})

    @pytest.mark.parametrize(
        ('options', 'expected'),
        [
            ({'name': 'RandomZoom', 'fit_size': 'input_size', 'scale_range': [2, 1]}, '0 < low'),
            ({'name': 'ClassBalancedCrop', 'size': [8, 8], 'max_class_share': 0}, 'greater than'),
            ({'name': 'DustHaze', 'density_range': [1, 0.5]}, '0 <= low <= high'),
            ({'name': 'LensSpots', 'mode': 'mud'}, "'dirt' or 'drops'"),
            ({'name': 'PhotometricDistortion', 'each_p': 2}, 'less than or equal to 1'),
        ],
    )
    def test_own_transforms_check_their_values(self, options, expected):
        assert expected in refuse(options)
