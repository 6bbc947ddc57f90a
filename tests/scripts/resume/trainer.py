"""The Trainer of transformers, resumed by itself; `--forget all` loads the weights of its checkpoint alone."""

import sys

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments, set_seed

torch.set_num_threads(1)
steps, folder, forget = int(sys.argv[1]), sys.argv[2], "--forget" in sys.argv
config = BertConfig(
    vocab_size=32, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, max_position_embeddings=16
)
tokens = torch.randint(32, (32, 8), generator=torch.Generator().manual_seed(1))
rows = [{"input_ids": row, "labels": row[0] % 2} for row in tokens]
arguments = TrainingArguments(
    output_dir=folder, max_steps=12, per_device_train_batch_size=4, gradient_accumulation_steps=2, use_cpu=True, report_to=[],
    save_strategy="steps", save_steps=6, logging_strategy="no", disable_tqdm=True,
)  # fmt: skip
set_seed(0)
model = BertForSequenceClassification(config)
resumed = f"{folder}/checkpoint-6" if "--resume" in sys.argv else None
if forget:
    model = BertForSequenceClassification.from_pretrained(resumed)


class Interrupt(TrainerCallback):
    """Ends the training early; its schedule is that of the whole run."""

    def on_step_end(self, args, state, control, **_):
        control.should_training_stop = state.global_step == steps
        return control


trainer = Trainer(model, arguments, train_dataset=rows, callbacks=[Interrupt()])
trainer.train(resume_from_checkpoint=None if forget else resumed)
