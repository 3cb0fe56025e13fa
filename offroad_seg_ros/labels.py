"""The latched topics that say what the numbers in the masks mean."""

from __future__ import annotations

from importlib import import_module

from rclpy.node import Node
from std_msgs.msg import String

from offroad_seg_core.inference.segmenter import Segmenter
from offroad_seg_core.label_names import label_names_json
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
        taxonomy = segmenter.bundle.taxonomy
        costs = taxonomy.cost_table(segmenter.options.cost_overrides)
        self._names.publish(String(data=label_names_json(taxonomy, costs)))
        if self._info is None:
            return
        message = self._vision.LabelInfo()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.threshold = float(segmenter.options.confidence_threshold)
        message.class_map = [
            self._vision.VisionClass(class_id=entry.id, class_name=entry.name)
            for entry in taxonomy.classes
        ]
        self._info.publish(message)

    def destroy(self) -> None:
        """Take the topics back."""
        for publisher in (self._names, self._info):
            if publisher is not None:
                self._node.destroy_publisher(publisher)
