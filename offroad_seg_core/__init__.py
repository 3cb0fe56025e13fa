"""Off-road semantic segmentation: the library. It knows no ROS and imports nothing here."""
