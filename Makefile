# Everything that is made lands in build/. A stamp there depends on what it was made from, so a warm call does nothing again.
PYTHON := build/venv/bin/python
LINK := build/collections/ansible_collections/moe/gateway

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup setup-test demo up down test lint test-go test-units test-integration bench docs dist clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 20

setup: build/venv/.demo $(LINK) ## Make what the demo needs: a virtual environment and the collection's link
setup-test: setup build/venv/.test

demo: setup ## Run the main job against a real Envoy on this machine, and prove each claim
	$(PYTHON) -m demo

up: setup ## Like demo, but leave everything running to play with
	$(PYTHON) -m demo up

down: setup ## Stop what `up` left running
	$(PYTHON) -m demo down

test: lint test-go test-units test-integration demo ## Run everything that must pass

lint: setup-test ## Run the linters
	tools/lint.sh

test-integration: setup-test ## Run the integration tests against a real Envoy
	$(PYTHON) -m pytest tests/integration

bench: setup-test ## Measure the figures that the README gives
	$(PYTHON) -m bench

clean: ## Remove all that was made
	rm -rf build .ansible

# The requirements of a virtual environment build on one another in this order.
build/venv/.demo: build/venv/.runtime
build/venv/.test: build/venv/.demo
build/venv/.%: requirements/%.txt tools/install.sh tools/find_python.sh
	tools/install.sh build/venv $<
	touch $@

$(LINK):
	mkdir -p $(@D)
	ln -s ../../../.. $@
