# Everything that is made lands in build/. A stamp there depends on what it was made from, so a warm call makes nothing anew.
PYTHON := build/venv/bin/python
LINK := build/collections/ansible_collections/moe/gateway
# How many the integration tests are shared between.
PROCESSES := 2

# Ansible loads what it compiled before.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup setup-test extension extension-portable control-plane demo up down
.PHONY: test lint sanity test-go test-units test-integration molecule bench docs dist clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 20

setup: build/venv/.demo $(LINK) ## Make what the demo needs: a virtual environment and the collection's link
setup-test: setup build/venv/.test build/venv-newest/.newest build/collections/.others ## Make what the tests and linters need

extension: setup ## Build the example extension
	$(PYTHON) tools/build_extension.py examples/basic_auth -o build/extensions/basic_auth.so

extension-portable: setup ## Build it for older systems too, with the compilers from the package index
	$(PYTHON) tools/build_extension.py examples/basic_auth --toolchain pypi -o build/extensions/portable/basic_auth.so

control-plane: setup ## Build the real control plane that the tests of Istio run (the first time 10 minutes)
	$(PYTHON) tools/build_control_plane.py

demo: extension ## Run the main job against a real Envoy on this machine, and prove each claim
	$(PYTHON) -m demo

up: extension ## Like demo, but leave everything running to play with
	$(PYTHON) -m demo up

down: setup ## Stop what `up` left running
	$(PYTHON) -m demo down

# Two lanes that take about as long, each of which keeps a core busy: what is waited for is short.
test: setup-test extension extension-portable ## Run everything that must pass
	tools/lanes.sh "control-plane test-integration PROCESSES=1" "lint sanity test-go test-units demo molecule"

lint: setup-test ## Run the linters
	tools/lint.sh

sanity: setup-test ## Run ansible-test sanity
	$(PYTHON) tools/ansible_test.py sanity

test-go: setup-test ## Check, test and fuzz the Go examples
	$(PYTHON) tools/test_go.py

test-units: setup-test ## Run the unit tests on this Python, and on the oldest of managed hosts that this machine has
	$(PYTHON) -m pytest tests/unit
	$(PYTHON) tools/ansible_test.py units

test-integration: extension extension-portable control-plane setup-test ## Run the integration tests against a real Envoy
	$(PYTHON) -m pytest tests/integration --numprocesses $(PROCESSES)

# One scenario alone needs no control plane, unless it is that of Istio.
molecule: $(if $(SCENARIO),$(patsubst istio,control-plane,$(filter istio,$(SCENARIO))),control-plane)
molecule: extension-portable build/molecule/venv/.molecule ## Run the scenarios on hosts with systemd, or one: make molecule SCENARIO=default
	tools/molecule.sh $(SCENARIO)

bench: setup-test ## Measure the figures that the README gives
	$(PYTHON) -m bench

docs: setup-test ## Build the reference as web pages
	tools/build_docs.sh

dist: setup ## Build the collection's tarball in build/dist
	build/venv/bin/ansible-galaxy collection build --force --output-path build/dist

clean: ## Remove all that was made
	rm -rf build .ansible

# The requirements of a virtual environment build on one another in this order.
build/venv/.demo: build/venv/.runtime
build/venv/.test: build/venv/.demo
build/venv/.%: requirements/%.txt tools/install.sh tools/find_python.sh
	tools/install.sh build/venv $<
	touch $@

# The newest ansible-core needs a newer Python than the other; a machine that has none does without.
build/venv-newest/.newest: requirements/newest.txt tools/install.sh tools/find_python.sh
	mkdir -p $(@D)
	if python=$$(tools/find_python.sh 12); then tools/install.sh $(@D) $< "$$python"; fi
	touch $@

build/molecule/venv/.molecule: requirements/molecule.txt tools/install.sh tools/find_python.sh
	tools/install.sh $(@D) $<
	touch $@

build/collections/.others: requirements/collections.txt tools/install_collections.py | build/venv/.runtime
	$(PYTHON) tools/install_collections.py $< $(@D)
	touch $@

$(LINK):
	mkdir -p $(@D)
	ln -s ../../../.. $@
