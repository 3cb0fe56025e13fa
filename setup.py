"""One build for colcon (ament_python) and for `pip install -e .`."""

from importlib.util import find_spec
from pathlib import Path
import xml.etree.ElementTree as ElementTree

from setuptools import find_packages, setup

PACKAGE = 'offroad_seg_ros'
# Resolved: `colcon build --symlink-install` runs a link to this file elsewhere.
ROOT = Path(__file__).resolve().parent
MANIFEST = ElementTree.parse(ROOT / 'package.xml').getroot()


def requirements(name):
    """Return the lines of requirements/<name>.txt that name packages."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith(('#', '-'))]


def shared(folder):
    """List a folder's files as data_files entries under share/<package>."""
    groups = {}
    for path in sorted((ROOT / folder).rglob('*')):
        if path.is_file() and '__pycache__' not in path.parts:
            relative = path.relative_to(ROOT)
            groups.setdefault(f'share/{PACKAGE}/{relative.parent}', []).append(str(relative))
    return list(groups.items())


setup(
    name=PACKAGE,
    version=MANIFEST.findtext('version'),
    description=' '.join(MANIFEST.findtext('description').split()),
    license='Apache-2.0',
    maintainer=MANIFEST.findtext('maintainer'),
    maintainer_email=MANIFEST.find('maintainer').get('email'),
    packages=find_packages(
        include=[
            'offroad_seg_core',
            'offroad_seg_core.*',
            'offroad_seg_ros',
            'offroad_seg_ros.*',
        ]
    ),
    package_data={
        'offroad_seg_core': [
            'py.typed',
            'taxonomies/*.yaml',
            'taxonomies/mappings/*.yaml',
            'datasets/faults/*.yaml',
            'datasets/augmentation/presets/*.yaml',
            'datasets/analysis/*.html',
            'evaluation/report/*.html',
            'evaluation/drive_report/*.css',
            'evaluation/drive_report/*.html',
            'evaluation/drive_report/*.js',
        ]
    },
    python_requires='>=3.10',
    # Loose on purpose: on a ROS machine NumPy and OpenCV are the distribution's. The pinned sets
    # that were tested together are in requirements/.
    install_requires=[
        'numpy>=1.21',
        'PyYAML',
        'pydantic>=2',
        'stringzilla>=5',
        'filelock',
        'onnxruntime',
        'openvino',
        'rosbags',
        # The commands that evaluate drives and compare labels.
        'Jinja2',
        'av',
        'mcap',
        'pillow',
        'plotly',
        'simplejpeg',
        'tqdm',
    ]
    + ([] if find_spec('cv2') else ['opencv-python-headless']),
    extras_require={
        'test': requirements('dev'),
        'train': requirements('train'),
        'fleet': requirements('fleet'),
    },
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (f'share/{PACKAGE}', ['package.xml']),
        *shared('launch'),
        *shared('config'),
        *shared('models'),
    ],
    zip_safe=False,
    entry_points={
        'console_scripts': [
            'bag_player = offroad_seg_ros.bag_player:main',
            'bag_recorder = offroad_seg_ros.bag_recorder:main',
            'check_engine = offroad_seg_ros.check_engine:main',
            'compare_labels = offroad_seg_ros.compare_labels:main',
            'evaluate_bag = offroad_seg_ros.evaluate_bag:main',
            'latency_recorder = offroad_seg_ros.latency_recorder:main',
            'segmentation_node = offroad_seg_ros.segmentation_node:main',
        ],
    },
)
