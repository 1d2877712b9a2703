# %% [markdown]
# # Captum's objects on a simulated accelerator
# Names, arguments, defaults and shapes are Captum's; what comes back was computed in fixed point, bit for bit as the
# machine does. Tensors come back as tensors.

# %%
import numpy as np

from xaisim import attr
from xaisim.models.images import test_scene
from xaisim.models.load import load_model

pictures = np.concatenate([test_scene(load_model("cifar_cnn"), n).x for n in (0, 1)])
machine = {"model": "cifar_cnn", "arch": "pynq_z2", "numerics": "fixed16"}

# %%
maps, delta = attr.IntegratedGradients(**machine).attribute(
    pictures, target=[0, 1], n_steps=20, return_convergence_delta=True
)
print("Integrated Gradients", maps.shape, "deltas", delta.round(4))

# %%
for kind in (
    attr.Saliency,
    attr.InputXGradient,
    attr.Deconvolution,
    attr.GuidedBackprop,
    attr.LayerGradCam,
    attr.GuidedGradCam,
):
    print(f"{kind.__name__:16s}", kind(**machine).attribute(pictures, target=[0, 1]).shape)

# %% [markdown]
# Noise on the host, as in Captum; or on the chip, in one launch.

# %%
tunnel = attr.NoiseTunnel(attr.Saliency(**machine)).attribute(pictures, target=[0, 1], nt_samples=4, stdevs=0.1)
chip = attr.AnyMethod("smoothgrad", **machine).attribute(pictures, target=[0, 1], n_samples=4, sigma=0.1, noise="lfsr")
print("NoiseTunnel", tunnel.shape, "smoothgrad on the chip", chip.shape)
