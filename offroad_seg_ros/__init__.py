"""The ROS 2 face of offroad_seg_core."""
