"""Lightning, resumed by itself; with torch's generator, which Lightning does not save: `--forget generator`
leaves that as it is, `--forget all` loads the weights of the checkpoint alone."""

import sys
import warnings

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")
epochs, folder, forget = int(sys.argv[1]), sys.argv[2], sys.argv[-1]
lightning.seed_everything(0, verbose=False)
torch.set_num_threads(1)
x = torch.randn(32, 8)


class Model(lightning.LightningModule):
    """A small network with Adam and a schedule."""

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))

    def training_step(self, batch, _):
        return torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), 1e-2)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)]


class Generator(lightning.Callback):
    """Keeps the state of torch's generator."""

    def on_save_checkpoint(self, trainer, module, checkpoint):
        checkpoint["generator"] = torch.get_rng_state()

    def on_load_checkpoint(self, trainer, module, checkpoint):
        if forget != "generator":
            torch.set_rng_state(checkpoint["generator"])


trainer = lightning.Trainer(
    max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
    enable_model_summary=False, callbacks=[Generator()],
)  # fmt: skip
model = Model()
saved = f"{folder}/epoch.ckpt" if "--resume" in sys.argv else None
if forget == "all":
    model.load_state_dict(torch.load(saved, weights_only=False)["state_dict"])
trainer.fit(
    model, DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8), ckpt_path=None if forget == "all" else saved
)
if saved is None:
    trainer.save_checkpoint(f"{folder}/epoch.ckpt")
