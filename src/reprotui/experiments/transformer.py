"""`transformer`: a small pre-norm decoder, on modular addition or on the characters of a text."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from reprotui.errors import BadInputError
from reprotui.experiments.config import TransformerConfig
from reprotui.experiments.datasets import BatchOrder, arrays_digest, load_text
from reprotui.experiments.optimizers import make_optimizer
from reprotui.experiments.protocol import State, StepOutput


class Block(nn.Module):
    """Causal self-attention and a feed-forward layer of four times the width, each behind a layer norm."""

    width: int
    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.dtype}
        mask = nn.make_causal_mask(x[..., 0])
        y = nn.LayerNorm(**types, name="norm_0")(x)
        x = x + nn.MultiHeadDotProductAttention(self.heads, **types, name="attention")(y, mask=mask)
        y = nn.LayerNorm(**types, name="norm_1")(x)
        y = nn.gelu(nn.Dense(4 * self.width, **types, name="dense_0")(y))
        return x + nn.Dense(self.width, **types, name="dense_1")(y)


class Decoder(nn.Module):
    """Logits float32[batch, length, vocabulary] from int32[batch, length]."""

    vocabulary: int
    length: int
    config: TransformerConfig

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        dtype = jnp.dtype(self.config.dtype)
        types: dict[str, Any] = {"dtype": dtype, "param_dtype": dtype}
        x = nn.Embed(self.vocabulary, self.config.width, **types, name="embed")(tokens)
        position = self.param("position", nn.initializers.normal(0.02), (self.length, self.config.width), dtype)
        x = x + position[: tokens.shape[1]]
        for layer in range(self.config.depth):
            x = Block(self.config.width, self.config.heads, dtype, name=f"block_{layer}")(x)
        x = nn.LayerNorm(**types, name="norm")(x)
        return nn.Dense(self.vocabulary, **types, name="head")(x).astype(jnp.float32)


class Transformer:
    """Next-token prediction. On modular addition (`a b =` to `a + b mod N`) the last position alone counts."""

    Config: ClassVar[type[TransformerConfig]] = TransformerConfig

    def __init__(self, config: TransformerConfig) -> None:
        self.config = config
        if config.text is None:
            numbers = np.arange(config.modulus, dtype=np.int32)
            a, b = (grid.reshape(-1) for grid in np.meshgrid(numbers, numbers, indexing="ij"))
            tokens = np.stack([a, b, np.full_like(a, config.modulus)], axis=1)
            self.data: Any = {"tokens": jnp.asarray(tokens), "answer": jnp.asarray((a + b) % config.modulus)}
            self.data_digest = arrays_digest(tokens)
            vocabulary, length, count, what = config.modulus + 1, 3, len(a), "pairs of numbers"
        else:
            text, alphabet = load_text(config.text)
            count, vocabulary, length = len(text) - config.context, len(alphabet), config.context
            if count < 1:
                raise BadInputError(
                    f"text={config.text} has {len(text)} characters: context={config.context} needs at least {config.context + 1}"
                )
            self.data_digest = arrays_digest(text)
            self.text, what = jnp.asarray(text), "windows of the text"
            self.data = {"start": jnp.arange(count, dtype=jnp.int32)}
        self.order = BatchOrder(config, count, what)
        self.model = Decoder(vocabulary, length, config)
        self.optimizer = make_optimizer(config)
        self._windows = jax.jit(lambda text, start: text[start[:, None] + jnp.arange(config.context + 1)])

    def init(self, key: jax.Array) -> State:
        """Return initial parameters and optimizer state."""
        params = self.model.init(key, jnp.zeros((1, self.model.length), jnp.int32))["params"]
        return State(params, self.optimizer.init(params))

    def batch(self, step: int) -> Any:
        """Return {"tokens": int32[batch, length], "answer": int32[batch] or int32[batch, length]}."""
        rows = self.order.take(step, self.data)
        if self.config.text is None:
            return rows
        windows = self._windows(self.text, rows["start"])
        return {"tokens": windows[:, :-1], "answer": windows[:, 1:]}

    def train_step(self, state: State, batch: Any, key: jax.Array) -> tuple[State, StepOutput]:
        """Return the state after one update; loss is the mean cross entropy. The model draws nothing from `key`."""

        def loss_function(params: Any) -> tuple[jax.Array, jax.Array]:
            logits: Any = self.model.apply({"params": params}, batch["tokens"])
            logits = logits[:, -1] if self.config.text is None else logits
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["answer"]).mean()
            return loss, jnp.mean((jnp.argmax(logits, -1) == batch["answer"]).astype(jnp.float32))

        (loss, accuracy), grads = jax.value_and_grad(loss_function, has_aux=True)(state.params)
        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return State(params, opt_state), StepOutput(loss, grads, {"accuracy": accuracy})
