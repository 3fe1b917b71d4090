# Two commands: `make demo` and `make test`. Both do all of their own set-up (see setup.sh).
.PHONY: setup demo test test-gui lint addon clean

STAMP := .venv/.setup-$(shell cat setup.sh pyproject.toml constraints*.txt | sha256sum | cut -c1-12)
BIN := .venv/bin

setup: $(STAMP)

$(STAMP):
	bash setup.sh
	touch $@

demo: setup
	$(BIN)/platelight demo --out out/demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Two files at a time on two cores; then, one by one, those that measure time.
test: export OMP_WAIT_POLICY = passive
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not alone" $(PYTEST)
	$(BIN)/python -m pytest -m alone $(PYTEST)

# A real Blender window under Xvfb, in a Debian 13 folder of its own: needs root and about 2 GB. BLENDER=5: Debian's newest.
test-gui: setup
	bash tests/gui/run.sh

addon: setup
	$(BIN)/python build_addon.py

clean:
	rm -rf out build dist .venv
