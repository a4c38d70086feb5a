"""The peer: LoRA training with diffusers and peft, written the obvious way (as their example scripts do it).

Reads its job from a JSON file given on the command line and prints one JSON object of figures at the end.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

START = time.perf_counter()


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    import numpy as np
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from peft import LoraConfig
    from PIL import Image
    from transformers import CLIPTextModel, CLIPTokenizer

    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    dtype = torch.bfloat16 if job["precision"] == "bf16" else torch.float32
    folder = job["diffusers"]
    tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
    text_encoder = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder", torch_dtype=dtype).requires_grad_(
        False
    )
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", torch_dtype=torch.float32).requires_grad_(False)
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", torch_dtype=dtype).requires_grad_(False)
    noise_scheduler = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    attention = ["to_k", "to_q", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"]
    unet.add_adapter(LoraConfig(r=job["rank"], lora_alpha=job["rank"], target_modules=attention))
    layers = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
    text_encoder.add_adapter(LoraConfig(r=job["rank"], lora_alpha=job["rank"], target_modules=layers))
    params = [p for model in (unet, text_encoder) for p in model.parameters() if p.requires_grad]
    for p in params:
        p.data = p.data.float()
    optimizer = torch.optim.AdamW(params, lr=1e-4)
    unet.train()
    text_encoder.train()

    began = time.perf_counter()
    latents, captions = [], []
    for path in sorted(Path(job["images"]).glob("*.png")):
        image = Image.open(path).convert("RGB").resize((job["size"], job["size"]), Image.Resampling.LANCZOS)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            latents.append(vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor)
        captions.append(path.with_suffix(".txt").read_text())
    caching = len(latents) / (time.perf_counter() - began)

    times = []
    for step in range(job["steps"]):
        began = time.perf_counter()
        chosen = [(step * job["batch"] + i) % len(latents) for i in range(job["batch"])]
        x = torch.cat([latents[i] for i in chosen])
        words = [captions[i] for i in chosen]
        ids = tokenizer(words, padding="max_length", truncation=True, return_tensors="pt").input_ids
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=job["precision"] == "bf16"):
            noise = torch.randn_like(x)
            t = torch.randint(0, 1000, (len(x),))
            noisy = noise_scheduler.add_noise(x, noise, t)
            pred = unet(noisy, t, text_encoder(ids)[0]).sample
            loss = torch.nn.functional.mse_loss(pred.float(), noise.float())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        times.append(time.perf_counter() - began)
        if step == 0:
            first = time.perf_counter() - START
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {
        "step_s": sorted(times[1:])[len(times[1:]) // 2],
        "peak_mb": peak,
        "first_step_s": first,
        "cached_per_s": caching,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
