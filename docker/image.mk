# The image: see docker/Dockerfile, and docker/image.py for what it takes from the environment.
export TOOL BASE IMAGE CA_BUNDLE CAFFE_SOURCE APT_MIRROR PIP_INDEX_URL

.PHONY: image base-image test-image test-all pins

image: ## the container image, with docker, podman or buildah
	@$(PYTHON) docker/image.py build

base-image: ## what the image is built on where none can be pulled, with debootstrap
	@$(PYTHON) docker/image.py base

test-image: $(stamps)/test ## what the image does, from outside; make image first
	@$(python) -m pytest tests/docker/image_checks.py $(PYTEST_ARGS)

test-all: test image test-image ## everything: the suite, and the image built and tested

pins: ## write the hashes of the pinned Python packages anew, after a version was changed
	@$(PYTHON) docker/pin.py docker/requirements.txt docker/requirements-build.txt docker/caffe/requirements.txt
