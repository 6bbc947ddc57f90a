"""`digits-mlp` and `digits-cnn`: classifiers of the handwritten digits, in flax linen."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from reprotui.experiments.config import CnnConfig, DigitsConfig, MlpConfig
from reprotui.experiments.datasets import BatchOrder, arrays_digest, load_digits_or_synthetic
from reprotui.experiments.optimizers import make_optimizer
from reprotui.experiments.protocol import State, StepOutput

CLASSES = 10


class Mlp(nn.Module):
    """A multilayer perceptron over float[batch, 8, 8]; logits float32[batch, 10]."""

    width: int
    depth: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = x.reshape(x.shape[0], -1).astype(self.dtype)
        for layer in range(self.depth):
            x = nn.relu(nn.Dense(self.width, dtype=self.dtype, param_dtype=self.dtype, name=f"dense_{layer}")(x))
        x = nn.Dense(CLASSES, dtype=self.dtype, param_dtype=self.dtype, name=f"dense_{self.depth}")(x)
        return x.astype(jnp.float32)


class Cnn(nn.Module):
    """Convolutions with batch normalisation, then dropout; logits float32[batch, 10]."""

    width: int
    depth: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = x[..., None].astype(self.dtype)
        for layer in range(self.depth):
            x = nn.Conv(self.width << min(layer, 3), (3, 3), dtype=self.dtype, param_dtype=self.dtype, name=f"conv_{layer}")(x)
            x = nn.BatchNorm(
                use_running_average=not train,
                momentum=0.9,
                dtype=self.dtype,
                param_dtype=self.dtype,
                name=f"norm_{layer}",
            )(x)
            x = nn.relu(x)
            if min(x.shape[1:3]) > 1:
                x = nn.max_pool(x, (2, 2), (2, 2))
        x = x.reshape(x.shape[0], -1)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(CLASSES, dtype=self.dtype, param_dtype=self.dtype, name="dense")(x).astype(jnp.float32)


class DigitsExperiment:
    """Cross entropy on the digits; `extra` holds the batch statistics of models that have any."""

    Config: ClassVar[type[DigitsConfig]] = DigitsConfig

    def __init__(self, config: Any) -> None:
        self.config = config
        train, self.test = load_digits_or_synthetic(config)
        self.data_digest = arrays_digest(train.x, train.y)
        self.order = BatchOrder(config, len(train.y), "training digits")
        self.train = {"x": jnp.asarray(train.x), "y": jnp.asarray(train.y)}
        self.model: nn.Module = self.make_model(config)
        self.optimizer = make_optimizer(config)

    def make_model(self, config: Any) -> nn.Module:
        """Return the model; batch and dropout aside, the two experiments differ in it alone."""
        return Mlp(config.width, config.depth, jnp.dtype(config.dtype))

    def init(self, key: jax.Array) -> State:
        """Return initial parameters, optimizer state and batch statistics."""
        variables = self.model.init(key, jnp.zeros((1, 8, 8), jnp.float32), train=False)
        params = variables["params"]
        return State(params, self.optimizer.init(params), variables.get("batch_stats", ()))

    def batch(self, step: int) -> Any:
        """Return {"x": float32[batch, 8, 8], "y": int32[batch]}."""
        return self.order.take(step, self.train)

    def train_step(self, state: State, batch: Any, key: jax.Array) -> tuple[State, StepOutput]:
        """Return the state after one update; loss is the mean cross entropy, accuracy that of the batch."""

        def loss_function(params: Any) -> tuple[jax.Array, Any]:
            logits, changed = self.model.apply(
                {"params": params, "batch_stats": state.extra or {}},
                batch["x"],
                train=True,
                rngs={"dropout": key},
                mutable=["batch_stats"],
            )
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"]).mean()
            accuracy = jnp.mean((jnp.argmax(logits, -1) == batch["y"]).astype(jnp.float32))
            return loss, (accuracy, changed.get("batch_stats", ()))

        (loss, (accuracy, extra)), grads = jax.value_and_grad(loss_function, has_aux=True)(state.params)
        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return State(params, opt_state, extra), StepOutput(loss, grads, {"accuracy": accuracy})

    def evaluate(self, state: State) -> dict[str, float]:
        """Return accuracy on the training and on the test digits."""

        def accuracy(params: Any, extra: Any, x: jax.Array, y: jax.Array) -> jax.Array:
            logits: Any = self.model.apply({"params": params, "batch_stats": extra or {}}, x, train=False)
            return jnp.mean((jnp.argmax(logits, -1) == y).astype(jnp.float32))

        compiled = jax.jit(accuracy)
        return {
            "train_accuracy": float(compiled(state.params, state.extra, self.train["x"], self.train["y"])),
            "test_accuracy": float(compiled(state.params, state.extra, self.test.x, self.test.y)),
        }


class DigitsMlp(DigitsExperiment):
    """The default experiment."""

    Config: ClassVar[type[DigitsConfig]] = MlpConfig


class DigitsCnn(DigitsExperiment):
    """Stochastic layers and state that the forward pass changes."""

    Config: ClassVar[type[DigitsConfig]] = CnnConfig

    def make_model(self, config: Any) -> nn.Module:
        return Cnn(config.width, config.depth, config.dropout, jnp.dtype(config.dtype))
