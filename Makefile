# Each target sets up all it needs: a virtual environment and the package in it.
PYTHON ?= python3
VENV ?= .venv
# Laws that can be seen in minutes: JAX compiles every operation of every rule and network.
SELECTED = not TestRules and not rule and not TestNetworks and not TestNeurons \
    and not (relus_on_relus and (other or coarse or own or delayed or corrected or channel or squares)) \
    and not (charge_agrees and (preactivation or inception or dense or depth or decoder or rows or volume)) \
    or branches and unroll
LAWS = tests/test_contracts.py tests/test_integer_networks.py tests/test_neurons.py tests/layers tests/simulation/test_spike_counter.py \
    tests/reporting/test_callbacks.py tests/analysis/test_neurobench.py tests/test_distribution.py \
    -k "$(SELECTED)"
PYTEST = TF_CPP_MIN_LOG_LEVEL=3 $(VENV)/bin/python -m pytest -n 2 --dist worksteal
RUN = TF_CPP_MIN_LOG_LEVEL=3 $(VENV)/bin

demo: $(VENV)/installed
	@$(RUN)/keras-snn demo

lint: $(VENV)/tested
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# Every law, on a few networks.
quick: $(VENV)/tested
	$(PYTEST) -m quick

test: lint
	$(PYTEST)

# Every test there is, compiled, and many more random networks.
test-all: lint
	KERAS_SNN_EXAMPLES=400 $(PYTEST) --thorough
	$(MAKE) test-backends
	$(MAKE) test-oldest
	$(MAKE) test-cluster

# One thread for PyTorch in each process: more would wait for each other, busily. JAX makes machine code without
# its optimizations, in two thirds of the time: programs are small, and the sums of the laws exact.
test-backends: $(VENV)/backends
	for backend in jax torch; do \
	    KERAS_BACKEND=$$backend OMP_NUM_THREADS=1 TF_CPP_MIN_LOG_LEVEL=3 \
	        XLA_FLAGS="--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true" \
	        $(VENV)/bin/python -m pytest -n 2 --dist worksteal $(LAWS) || exit 1; \
	done

# With the oldest versions that setup.cfg allows.
test-oldest: $(VENV)-oldest/tested
	TF_CPP_MIN_LOG_LEVEL=3 $(VENV)-oldest/bin/python -m pytest -n 2 --dist worksteal $(LAWS)

# Strictly, and without the network; what was built is looked at.
docs: $(VENV)/documented
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict
	TF_CPP_MIN_LOG_LEVEL=3 $(VENV)/bin/python -m pytest tests/test_site.py
	@echo "The site is in site/index.html"

$(VENV)/documented: $(VENV)/tested
	@echo "Installing what the documentation is built with"
	@$(VENV)/bin/python -m pip install --quiet --editable '.[test,docs]'
	@touch $@

# A wheel and a source distribution in dist/, checked as PyPI does and tried in environments of their own.
package: $(VENV)-package/built
	rm -rf dist
	$(VENV)-package/bin/python -m build
	$(VENV)-package/bin/python -m twine check --strict dist/*
	$(PYTHON) tools/try_package.py dist

$(VENV)-package/built:
	@$(PYTHON) -m venv $(VENV)-package
	@$(VENV)-package/bin/python -m pip install --quiet build twine
	@touch $@

$(VENV)/installed: setup.cfg pyproject.toml
	@echo "Installing TensorFlow, Keras and keras_snn into $(VENV): some minutes, once"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/tested: $(VENV)/installed
	@echo "Installing what the tests need"
	@$(VENV)/bin/python -m pip install --quiet --editable '.[test]'
	@touch $@

$(VENV)/backends: $(VENV)/tested
	@echo "Installing JAX, PyTorch and NeuroBench"
	@$(VENV)/bin/python -m pip install --quiet --editable '.[test,backends]'
	@touch $@

# On a Ray cluster of two nodes on this machine.
test-cluster: $(VENV)/clustered
	TF_CPP_MIN_LOG_LEVEL=3 $(VENV)/bin/python -m pytest --thorough tests/test_cluster.py

$(VENV)/clustered: $(VENV)/tested
	@echo "Installing Ray"
	@$(VENV)/bin/python -m pip install --quiet --editable '.[test,ray]'
	@touch $@

$(VENV)-oldest/tested: setup.cfg pyproject.toml tests/oldest.txt
	@echo "Installing the oldest versions into $(VENV)-oldest"
	@$(PYTHON) -m venv $(VENV)-oldest
	@$(VENV)-oldest/bin/python -m pip install --quiet --constraint tests/oldest.txt --editable '.[test]'
	@touch $@

.PHONY: demo docs lint package quick test test-all test-backends test-cluster test-oldest
