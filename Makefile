# Two commands for a fresh machine with Python >= 3.11:  make demo   and   make test
# Each makes its own environment in .venv, with uv where it is found and with venv + pip otherwise.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)

ifdef UV
MAKE_VENV = uv venv --quiet --allow-existing --python $(PYTHON) $(VENV)
INSTALL = uv pip install --quiet --python $(BIN)/python
else
MAKE_VENV = $(PYTHON) -m venv $(VENV)
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check
endif

.PHONY: demo test clean

demo: $(VENV)/.installed
	$(BIN)/xaisim explain -o xaisim-demo --force
	@echo "open xaisim-demo/heatmap.png and xaisim-demo/report.html"

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2

$(VENV)/.installed: pyproject.toml
	$(MAKE_VENV)
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml
	$(MAKE_VENV)
	$(INSTALL) -e ".[test]"
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) xaisim-demo
