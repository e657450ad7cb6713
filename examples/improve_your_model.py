"""Improve a robust network of your own: three calls."""

from robust_digits import ATTACK, AUGMENT, images, robust_network

import rift

model = robust_network()  # yours: any nn.Module that returns logits for images in [0, 1]
train, validation, test = images()  # yours: (pixels, labels), a Dataset or a DataLoader

result = rift.improve(
    model,
    train,
    validation,
    test=test,
    attack=ATTACK,
    augment=AUGMENT,
    criticality={"images": 200},
    finetune={"epochs": 4, "learning_rate": 0.01},
)
print(result.summary())
result.save("better")  # weights, tables, figure, summary.html
