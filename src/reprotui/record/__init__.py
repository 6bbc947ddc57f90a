"""Recording a training loop beside its steps: the engine, and `Recorder`, which puts it into anybody's loop."""
