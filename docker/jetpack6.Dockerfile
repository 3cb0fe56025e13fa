# The node with TensorRT 10.3 for a Jetson with JetPack 6 (ROS 2 Humble). BASE is NVIDIA's image
# l4t-jetpack, whose tag must fit the Jetson's L4T (r36.4.0 for JetPack 6.1 and 6.2; for another
# --build-arg BASE=nvcr.io/nvidia/l4t-jetpack:TAG). From the repository's root, on the Jetson:
#   docker build -f docker/jetpack6.Dockerfile -t offroad_seg .
#   docker run --rm -it --runtime nvidia --ipc=host --net=host -v offroad_seg_cache:/cache offroad_seg
ARG BASE=nvcr.io/nvidia/l4t-jetpack:r36.4.0
FROM ${BASE}

ENV DEBIAN_FRONTEND=noninteractive \
    XDG_CACHE_HOME=/cache

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl \
    && curl -fsSL https://raw.githubusercontent.com/ros/rosdistro/master/ros.key \
        -o /usr/share/keyrings/ros-archive-keyring.gpg \
    && echo "deb [signed-by=/usr/share/keyrings/ros-archive-keyring.gpg] \
http://packages.ros.org/ros2/ubuntu jammy main" > /etc/apt/sources.list.d/ros2.list \
    && apt-get update \
    && apt-get install --yes --no-install-recommends \
        make python3-venv python3-opencv python3-libnvinfer \
        ros-humble-ros-base ros-humble-cv-bridge \
        ros-humble-diagnostic-msgs ros-humble-vision-msgs \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /offroad_seg
COPY . .
# Its environment sees the system's packages, and so JetPack's TensorRT.
RUN source /opt/ros/humble/setup.bash \
    && make vehicle GPU=1

VOLUME /cache
ENTRYPOINT ["/offroad_seg/docker/entrypoint.sh"]
CMD ["ros2", "launch", "offroad_seg_ros", "segment.launch.py", "engine:=tensorrt"]
