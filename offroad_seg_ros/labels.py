"""The latched topics that say what the numbers in the masks mean."""

from __future__ import annotations

from importlib import import_module
import json

from rclpy.node import Node
from std_msgs.msg import String

from offroad_seg_core.inference.segmenter import Segmenter
from offroad_seg_core.taxonomy import IGNORE_INDEX, UNKNOWN_COST
from offroad_seg_ros.transport import LATCHED_QOS


class LabelTopics:
    """Publishes `segmentation/label_names`, and `segmentation/label_info` with vision_msgs."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._names = node.create_publisher(String, 'segmentation/label_names', LATCHED_QOS)
        self._info = None
        try:
            self._vision = import_module('vision_msgs.msg')
        except ImportError as error:
            node.get_logger().info(
                f'segmentation/label_info is off ({error}); segmentation/label_names says the '
                'same; fix: install ros-<distro>-vision-msgs'
            )
        else:
            self._info = node.create_publisher(
                self._vision.LabelInfo, 'segmentation/label_info', LATCHED_QOS
            )

    @property
    def has_info(self) -> bool:
        """Whether vision_msgs is there."""
        return self._info is not None

    def publish(self, segmenter: Segmenter) -> None:
        """Publish the taxonomy with this robot's costs; late subscribers get it too."""
        self._names.publish(String(data=label_names_json(segmenter)))
        if self._info is None:
            return
        message = self._vision.LabelInfo()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.threshold = float(segmenter.options.confidence_threshold)
        message.class_map = [
            self._vision.VisionClass(class_id=entry.id, class_name=entry.name)
            for entry in segmenter.bundle.taxonomy.classes
        ]
        self._info.publish(message)

    def destroy(self) -> None:
        """Take the topics back."""
        for publisher in (self._names, self._info):
            if publisher is not None:
                self._node.destroy_publisher(publisher)


def label_names_json(segmenter: Segmenter) -> str:
    """Return taxonomy, ids, names, colours (#rrggbb) and costs, parallel lists in JSON."""
    taxonomy = segmenter.bundle.taxonomy
    costs = taxonomy.cost_table(segmenter.options.cost_overrides)
    content = {
        'taxonomy': taxonomy.name,
        'ids': [entry.id for entry in taxonomy.classes],
        'names': list(taxonomy.names),
        'colors': ['#' + bytes(entry.color_rgb).hex() for entry in taxonomy.classes],
        'costs': [int(costs[entry.id]) for entry in taxonomy.classes],
        'unlabeled_id': IGNORE_INDEX,
        'unknown_cost': UNKNOWN_COST,
    }
    return json.dumps(content)
