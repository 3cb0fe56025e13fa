"""Camera pictures out of rosbag2 bags, without ROS."""
