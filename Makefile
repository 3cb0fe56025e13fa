# Every target does its own set-up. Python 3.10 or newer: make demo PYTHON=python3.12
PYTHON ?= python3
INSTALL = $(PYTHON) requirements/install.py
DEV = .venv/bin

.PHONY: help demo test test-large fleet-test install lint bench vehicle clean

help:  ## Show the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 12

demo:  ## Drive, segment and look at the result (BAG=path, IMAGES=folder, ENGINE=name, OUTPUT=folder).
	@$(INSTALL) .venv-demo core replay ros
	@.venv-demo/bin/python -m offroad_seg_ros.demo --output '$(or $(OUTPUT),demo_output)' \
		$(if $(BAG),--bag '$(BAG)') $(if $(IMAGES),--images '$(IMAGES)') \
		$(if $(BUNDLE),--bundle '$(BUNDLE)') $(if $(ENGINE),--engine '$(ENGINE)')

install:  ## Make the full development environment in .venv (with PyTorch).
	@$(INSTALL) .venv core replay ros train fleet dev build --editable

test: install  ## Run the tests: the core first, then everything over real DDS.
	@$(DEV)/python -m pytest -q -n auto --dist loadfile test/core test/training
	@$(DEV)/python -m pytest -q test/ros test/packaging

test-large: install  ## Run the tests that take minutes or gigabytes.
	@$(DEV)/python -m pytest -q -m large test

fleet-test: install  ## Test evaluation on a cluster, too: kill one of its nodes in the middle.
	@FLEET_TEST=1 $(DEV)/python -m pytest -q test/core/evaluation/test_fleet_cluster.py

lint: install  ## Check style and types.
	@$(DEV)/ruff check .
	@$(DEV)/ruff format --check .
	@$(DEV)/mypy

bench: install  ## Measure everything on this machine into benchmarks/results/ (QUICK=1 for a look).
	@for name in imaging engine input_size student node_latency cameras startup data metrics \
		train_step dcnv4 bag_eval fleet; do \
		echo "== $$name"; \
		$(DEV)/python benchmarks/$$name.py $(if $(QUICK),--quick) || exit 1; \
	done

vehicle:  ## On a machine with a sourced ROS 2: build the package with engines from pip (GPU=1: NVIDIA).
	@test -n "$$ROS_DISTRO" || { \
		echo 'got no sourced ROS 2, expected one; fix: source /opt/ros/<distro>/setup.bash'; \
		echo '(without ROS: make demo)'; exit 1; }
	@$(INSTALL) .venv-vehicle core replay build $(if $(GPU),gpu)
	@.venv-vehicle/bin/python -m colcon build --packages-select offroad_seg_ros
	@echo 'done; next: source install/setup.bash && ros2 launch offroad_seg_ros segment.launch.py'

clean:  ## Remove environments, builds and demo results.
	@rm -rf .venv .venv-demo .venv-vehicle build install log demo_output
