"""RViz shows the topics of the interface: in the shipped file, and for the cameras of a launch."""

from pathlib import Path

import pytest
import yaml

from offroad_seg_ros.launch_plan import plan_segment
from offroad_seg_ros.launch_rviz import shipped_layout

OUTPUTS = ('segmentation/overlay', 'segmentation/class_colors')


@pytest.fixture
def planned(tmp_path, monkeypatch):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    (tmp_path / 'manifest.yaml').touch()

    def plan(**given):
        arguments = plan_segment({'bundle': str(tmp_path), 'rviz': 'true', **given}, {})
        path = Path(arguments.rviz_arguments[1])
        assert path.parent == tmp_path
        return yaml.safe_load(path.read_text())

    return plan


def _shown(config):
    manager = config['Visualization Manager']
    assert manager['Global Options']['Fixed Frame']
    displays = manager['Displays']
    assert {display['Class'] for display in displays} == {'rviz_default_plugins/Image'}
    assert len({display['Name'] for display in displays}) == len(displays)
    return {entry['Topic']['Value']: entry['Topic'] for entry in displays if entry['Enabled']}


def _topics(cameras, image='image'):
    return [f'/{camera}/{name}' for camera in cameras for name in (image, *OUTPUTS)]


def test_the_shipped_file_shows_both_cameras():
    shown = _shown(yaml.safe_load(shipped_layout().read_text()))
    assert list(shown) == _topics(['windshield', 'left'])
    for topic, settings in shown.items():
        is_output = 'segmentation' in topic
        # Outputs are offered reliable; a best effort request satisfies every camera driver.
        assert settings['Reliability Policy'] == ('Reliable' if is_output else 'Best Effort')
        assert settings['Durability Policy'] == 'Volatile'
        assert settings['History Policy'] == 'Keep Last'
        assert settings['Depth'] == 1


def test_the_default_cameras_are_shown_as_in_the_shipped_file(planned):
    assert planned() == yaml.safe_load(shipped_layout().read_text())


def test_other_cameras_have_panels_of_their_own(planned):
    shown = _shown(planned(windshield='none', cameras='rear=/rear/image_raw'))
    assert list(shown) == _topics(['left', 'rear'])


def test_compressed_images_are_shown_as_such(planned):
    shown = _shown(planned(transport='compressed'))
    assert list(shown) == _topics(['windshield', 'left'], 'image/compressed')
