# Each target sets up all it needs: a virtual environment and the package in it.
PYTHON ?= python3
VENV ?= .venv
RUN = TF_CPP_MIN_LOG_LEVEL=3 $(VENV)/bin

demo: $(VENV)/installed
	@$(RUN)/keras-snn demo

test: $(VENV)/tested
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	TF_CPP_MIN_LOG_LEVEL=3 $(VENV)/bin/python -m pytest -n 2 --dist loadfile

docs: $(VENV)/tested
	TF_CPP_MIN_LOG_LEVEL=3 $(VENV)/bin/python -m pdoc --docformat google --no-show-source --output-directory docs/api keras_snn
	@echo "The reference is in docs/api/index.html"

$(VENV)/installed: setup.cfg pyproject.toml
	@echo "Installing TensorFlow, Keras and keras_snn into $(VENV): some minutes, once"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/tested: $(VENV)/installed
	@echo "Installing what the tests need"
	@$(VENV)/bin/python -m pip install --quiet --editable '.[test]'
	@touch $@

.PHONY: demo docs test
