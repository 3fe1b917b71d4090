"""The relighting pipeline: decompose a plate, relight it, finish it. ``service.run_job`` is the way in."""
