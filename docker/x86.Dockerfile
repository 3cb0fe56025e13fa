# The node with TensorRT for a PC with an NVIDIA GPU (ROS 2 Jazzy). From the repository's root:
#   docker build -f docker/x86.Dockerfile -t offroad_seg .
#   docker run --rm -it --gpus all --ipc=host --net=host -v offroad_seg_cache:/cache offroad_seg
ARG BASE=ros:jazzy-ros-base
FROM ${BASE}

# The driver's libraries come from the host, through the NVIDIA container toolkit.
ARG TENSORRT=tensorrt-cu12==10.16.1.11
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    XDG_CACHE_HOME=/cache

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        make python3-venv python3-opencv \
        ros-jazzy-cv-bridge ros-jazzy-diagnostic-msgs ros-jazzy-vision-msgs \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /offroad_seg
COPY . .
RUN source /opt/ros/jazzy/setup.bash \
    && make vehicle GPU=1 \
    && .venv-vehicle/bin/pip install --no-cache-dir "${TENSORRT}"

VOLUME /cache
ENTRYPOINT ["/offroad_seg/docker/entrypoint.sh"]
CMD ["ros2", "launch", "offroad_seg_ros", "segment.launch.py", "engine:=tensorrt"]
