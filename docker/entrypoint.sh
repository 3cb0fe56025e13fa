#!/usr/bin/env bash
# Run a command with the container's ROS 2 and this package sourced.
set -e
source "$(ls -d /opt/ros/*)/setup.bash"
source /offroad_seg/install/setup.bash
exec "$@"
