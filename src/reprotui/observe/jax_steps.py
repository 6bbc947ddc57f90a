"""Make records out of the calls of a train step and of the functions that are called along with it."""

from typing import Any

from reprotui.observe.jax_calls import Call, Function, Leaf
from reprotui.observe.roles import gradient_path, is_gradient, is_key, is_scalar, loss_path, outside_state, renamed, state_path
from reprotui.observe.watch import Watch

REPLACED_SAID = 20
"""Events about state that was replaced between two steps, before no more is said of it."""


class StepBuilder:
    """Records of one train step.

    Args:
        watch: the observation of this process.
        step: the train step; record k is its k-th call.
        functions: the train step, and those whose outputs go into it each time, such as a jitted gradient.
        example: a call of the train step.
    """

    def __init__(self, watch: Watch, step: Function, functions: set[Function], example: Call) -> None:
        self._watch = watch
        self.step, self.functions = step, functions
        fed = [(path, leaf) for path, leaf in example.inputs.items() if path in step.fed]
        self._keeps_parameters = any(
            state_path(path, leaf.kind, self._in_optimizer(example, path)).startswith("params/") for path, leaf in fed
        )
        self._number = 0
        self._along: list[Call] = []
        self._late: tuple[int, list[Any]] | None = None
        self._said = 0
        self._outside_names: dict[Function, set[str]] = {}

    def replay(self, call: Call) -> None:
        """Take in a call that was made before the train step was chosen; its checksums are there."""
        self._settle(call)
        self._finish_call(call)

    def begin(self, call: Call) -> None:
        """Take in a call that is about to be made, and wait here while the run is paused."""
        if self._watch.options.record:
            record = self._watch.due(self._number + 1)
            known = self.step.fed if call.function is self.step else {}
            wanted = [
                leaf
                for leaf in call.inputs.values()
                if leaf.origin is None and (record or self._late is not None) and (leaf.path not in known)
            ]
            self._take(wanted)
            replaced = [leaf for leaf in call.inputs.values() if leaf.path in known and leaf.origin is None]
            if replaced and self._said < REPLACED_SAID:
                self._said += 1
                names = ", ".join(leaf.path for leaf in replaced[:3]) + (" and more" if len(replaced) > 3 else "")
                text = f"step {self._number + 1} does not start from what step {self._number} gave: {names}"
                self._watch.event("state-replaced", text)
            self._settle(call)
        if call.function is self.step:
            self._watch.wait()
            self._watch.tick()

    def end(self, call: Call) -> None:
        """Take in what a call gave."""
        if self._watch.options.record and self._watch.due(self._number + 1):
            self._take(list(call.outputs.values()))
        if call.function is self.step:
            self.step.outputs = [(leaf.path, leaf.value) for leaf in call.outputs.values()]
        self._finish_call(call)

    def finish(self) -> None:
        """Record what is still open."""
        if self._late is not None:
            number, pieces = self._late
            self._late = None
            self._watch.put(number, pieces)

    def _take(self, leaves: list[Leaf]) -> None:
        pieces = self._watch.assembly.pieces([("batch", leaf.path, leaf.value) for leaf in leaves])
        for leaf, piece in zip(leaves, pieces, strict=True):
            leaf.piece = piece

    def _settle(self, call: Call) -> None:
        """Complete the record before, where its state is updated outside of jitted functions and only shows now."""
        if self._late is None:
            return
        state = self._outside(call)
        if not state:
            return
        number, pieces = self._late
        self._late = None
        known = {piece.spec.path for piece in pieces}
        added = [_as(leaf, "update", _outside_name(path)) for path, leaf in state.items() if leaf.known_piece is not None]
        self._watch.put(number, [*pieces, *(piece for piece in added if piece.spec.path not in known)])

    def _finish_call(self, call: Call) -> None:
        if call.function is not self.step:
            self._along.append(call)
            call.release()
            return
        self._number += 1
        if self._watch.options.record:
            calls = [*self._along, call]
            if self._number == 1:
                self._put_init(calls)
            if self._watch.due(self._number):
                pieces = self._pieces(calls)
                if any(self._outside(item) for item in calls):
                    self._late = self._number, pieces
                else:
                    self._watch.put(self._number, pieces)
            if self._watch.session is not None:
                self._watch.session.step = self._number
        self._along = []
        call.release()

    def _put_init(self, calls: list[Call]) -> None:
        pieces: dict[str, Any] = {}
        for call in calls:
            state = {path: leaf for path, leaf in call.inputs.items() if call.function is self.step and path in self.step.fed}
            named = {path: state_path(path, leaf.kind, self._in_optimizer(call, path)) for path, leaf in state.items()}
            outside = self._outside(call)
            named |= {path: _outside_name(path) for path in outside}
            for path, name in named.items():
                leaf = call.inputs[path]
                if leaf.known_piece is not None:
                    pieces.setdefault(name, _as(leaf, "init", name))
        if pieces:
            self._watch.put(0, list(pieces.values()))

    def _pieces(self, calls: list[Call]) -> list[Any]:
        asked = self._watch.options.loss
        fed = set(self.step.fed.values())
        outputs = {
            (call.function, path): leaf
            for call in calls
            for path, leaf in call.outputs.items()
            if not (call.function is self.step and path in fed)
        }
        loss = loss_path({path: leaf.kind for (_, path), leaf in outputs.items()}, asked)
        states = {
            leaf.kind
            for call in calls
            for outside in [self._outside(call)]
            for path, leaf in call.inputs.items()
            if (call.function is self.step and path in self.step.fed) or path in outside
        }
        pieces = [piece for call in calls for piece in self._inputs(call)]
        for (function, path), leaf in outputs.items():
            if leaf.piece is None:
                continue
            if path == loss:
                pieces.append(_as(leaf, "forward", "loss"))
                loss = None if asked is None else loss
            elif is_scalar(leaf.kind):
                pieces.append(_as(leaf, "forward", f"metrics/{path}"))
            elif function is not self.step and leaf.kind not in states and not is_gradient(path):
                # Made along with each step, but not of a parameter's kind: augmented data, for one.
                pieces.append(_as(leaf, "batch", f"batch/{path}"))
            elif function is not self.step or is_gradient(path) or not self.step.fed:
                pieces.append(_as(leaf, "grads", gradient_path(path)))
            elif len(self.functions) > 1:
                # The gradients come from a function of their own; what this one gives besides its state are the updates.
                pieces.append(_as(leaf, "update", f"updates/{path}"))
            else:
                pieces.append(_as(leaf, "forward", f"extra/{path}"))
        return pieces + self._update(calls[-1])

    def _inputs(self, call: Call) -> list[Any]:
        outside = self._outside(call)
        pieces = []
        for path, leaf in call.inputs.items():
            if leaf.piece is None or path in outside or (call.function is self.step and path in self.step.fed):
                continue
            if leaf.origin is not None and leaf.origin[0] in self.functions:
                continue
            key = is_key(path, leaf.kind)
            pieces.append(_as(leaf, "rng" if key else "batch", f"{'rng' if key else 'batch'}/{path}"))
        return pieces

    def _update(self, call: Call) -> list[Any]:
        back = {output: path for path, output in self.step.fed.items()}
        found = []
        for path, leaf in call.outputs.items():
            if path in back and leaf.piece is not None:
                name = state_path(back[path], leaf.kind, self._in_optimizer(call, back[path]))
                found.append((not name.startswith("opt_state"), _as(leaf, "update", name)))
        # The optimizer's state comes before the parameters that it moves.
        return [piece for _, piece in sorted(found, key=lambda item: item[0])]

    def _in_optimizer(self, call: Call, path: str) -> bool:
        """Say whether a leaf of the state is the optimizer's, as what goes in or what comes out tells."""
        output = call.outputs.get(self.step.fed[path])
        return (path in call.inputs and call.inputs[path].in_optimizer) or (output is not None and output.in_optimizer)

    def _outside(self, call: Call) -> dict[str, Leaf]:
        """Return the inputs that are state of the script's own keeping: none where parameters come back by themselves."""
        if self._keeps_parameters:
            return {}
        own = self.step.fed if call.function is self.step else {}
        inputs = {
            path: leaf.kind
            for path, leaf in call.inputs.items()
            if path not in own and not (leaf.origin is not None and leaf.origin[0] in self.functions)
        }
        outputs = {path: leaf.kind for path, leaf in call.outputs.items()}
        if outputs:
            self._outside_names[call.function] = set(outside_state(inputs, outputs))
        # Before a call its outputs are not there: what was state in the call before is state now.
        names = self._outside_names.get(call.function, set())
        return {path: call.inputs[path] for path in inputs if path in names}


def _outside_name(path: str) -> str:
    """Return the name of a parameter that the script updates by itself; functions may call the argument differently."""
    first, _, rest = path.partition("/")
    return f"params/{rest or first}"


def _as(leaf: Leaf, phase: str, path: str) -> Any:
    piece = leaf.known_piece
    return piece._replace(phase=phase, spec=renamed(piece.spec, path))
