import dataclasses
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gammascope.errors import IncompatibleCheckpointError, MissingDataError, RecipeError
from gammascope.generation import base, harmon
from gammascope.generation.autoencoder import Autoencoder, TinyAutoencoder
from gammascope.generation.harmon import GENERATOR, Config, FirstStage, Harmon, Language
from gammascope.generation.kl_autoencoder import KlAutoencoder
from gammascope.generation.masked_autoregression import Sizes
from gammascope.generation.small_autoencoder import Design

CLASSES = ("dog", "cat")


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def network(lively):
    return lively("harmon")


def test_guidance_of_1_is_the_class_alone_and_nothing_is_not_guided(network):
    at = {}
    for guidance in (1.0, 3.0):
        each = base.build("harmon", dataclasses.replace(network.config, guidance=guidance))
        each.load_state_dict(network.state_dict())
        at[guidance] = [each.sample(asked, (16, 16), rng()) for asked in ("cat", None)]
    assert (at[1.0][0] != at[3.0][0]).any()
    np.testing.assert_array_equal(at[1.0][1], at[3.0][1])


def test_known_tokens_are_kept_exactly(network):
    tokens = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))
    kept = torch.arange(16) % 3 > 0
    drawn = network.drawn_tokens(1, tokens, kept, rng())
    assert torch.equal(drawn[kept], tokens[kept])
    assert (drawn[~kept] != tokens[~kept]).all()
    assert torch.equal(network.drawn_tokens(1, tokens, kept.new_ones(16), rng()), tokens)


def test_what_stood_at_open_places_has_no_say(network):
    first, second = torch.randn(2, 16, 4, generator=torch.Generator().manual_seed(1))
    kept = torch.arange(16) < 6
    second[kept] = first[kept]
    made = [network.drawn_tokens(-1, tokens, kept, rng()) for tokens in (first, second)]
    assert torch.equal(*made)


def test_an_edit_of_strength_0_is_the_round_trip_and_1_forgets_the_photo(network):
    photo, other = rng(1).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    trip = base.to_image(network.decoded(network.tokens(base.to_pixels(photo))))
    np.testing.assert_array_equal(network.edit(photo, "", 0.0, rng()), trip)
    np.testing.assert_array_equal(
        network.edit(photo, "dog", 1.0, rng()), network.edit(other, "dog", 1.0, rng())
    )
    with pytest.raises(RecipeError, match=r"expected 0\.\.1"):
        network.edit(photo, "", 1.5, rng())


@pytest.mark.parametrize(("count", "steps"), [(256, 16), (64, 64), (5, 16), (1, 4), (0, 4)])
def test_fewer_tokens_are_left_after_each_step_and_none_in_the_end(count, steps):
    left = harmon.remaining(count, steps)
    assert all(later < earlier for earlier, later in zip([count, *left], left, strict=False))
    assert len(left) <= steps
    assert left[-1:] == ([0] if count else [])


def test_places_are_learnt_for_one_grid_and_interpolated_for_others(network):
    table = network.mar.encoder_pos_embed_learned
    assert network.mar._placed(table, 16) is table
    larger = network.mar._placed(table, 64)
    assert larger.shape == (1, 2 + 64, 16)
    assert torch.equal(larger[:, :2], table[:, :2])
    torch.testing.assert_close(larger[:, 2:].mean(1), table[:, 2:].mean(1), atol=0.02, rtol=0)


def test_prompts_of_several_lengths_are_read_as_if_alone(network):
    config = dataclasses.replace(network.config, prompts=((0, 1, 2), (1,), (2, 0)))
    asked = Harmon(config).eval()
    asked.load_state_dict(network.state_dict())
    tokens = torch.randn(3, 16, 4, generator=torch.Generator().manual_seed(1))
    known = torch.arange(5).expand(3, -1)
    together = asked.told(tokens, known, torch.tensor([0, 1, -1]))
    for row, label in enumerate((0, 1, -1)):
        alone = asked.told(tokens[row, None], known[:1], torch.tensor([label]))
        torch.testing.assert_close(together[row, None], alone, atol=1e-5, rtol=1e-4)
    assert (together[0] != asked.told(tokens[:1], known[:1], torch.tensor([1]))[0]).any()


def test_only_the_autoencoder_is_not_trained_and_it_never_samples(network):
    trained = {id(p) for p in GENERATOR.stages[0].trained(network)}
    left = {name for name, p in network.named_parameters() if id(p) not in trained}
    assert left == {f"vae.{name}" for name, _ in network.vae.named_parameters()}
    assert not Harmon(network.config).train().vae.training


def test_first_stages_are_exchangeable(tmp_path):
    small = Sizes(16, 1, 2, 2, 4, 16, 1)
    for stage, px in ((FirstStage("taesd", 4, 8), 32), (FirstStage("kl16", 4, 32), 64)):
        config = Config(
            px=px, first_stage=stage, patch=1, network=small, language=Language(hidden=16), steps=2
        )
        made = base.build("harmon", config)
        assert isinstance(made.vae, Autoencoder)
        assert made.sample(None, (px, px), rng()).shape == (px, px, 3)
    given = KlAutoencoder(4, 32)
    torch.save({"model": given.state_dict()}, tmp_path / "kl16.ckpt")
    made.adopt(tmp_path)
    assert torch.equal(made.vae.quant_conv.weight, given.quant_conv.weight)
    with pytest.raises(MissingDataError, match=r"\*\.ckpt"):
        made.adopt(tmp_path / "nowhere")
    tiny = TinyAutoencoder(4, 8, mixing=False)
    for part in ("encoder", "decoder"):
        torch.save(getattr(tiny, part).state_dict(), tmp_path / f"tiny_{part}.pth")
    other = Harmon(dataclasses.replace(config, px=32, first_stage=FirstStage("taesd", 4, 8)))
    other.adopt(tmp_path)
    assert torch.equal(other.vae.decoder[1].weight, tiny.decoder[1].weight)


def small_original(classes=CLASSES):
    """The original's kinds of parts at a size for tests."""
    return Config(
        px=32,
        classes=classes,
        prompts=((5, 6, 7), (5, 6), (5,)),
        first_stage=FirstStage("kl16", 4, 32, 0.2325),
        patch=1,
        network=Sizes(16, 2, 2, 3, 4, 16, 2),
        language=Language("qwen2", 16, 2, 2, 1, 24, 40),
        steps=2,
        head_steps=4,
    )


def made_files(folder, config):
    """Tensors under the original's names in files as its authors share them: two, one without a prefix."""
    torch.manual_seed(3)
    width, heads, token = 16, 16, 4
    shapes = {
        "mar.class_emb.weight": (1000, width),
        "mar.fake_latent": (1, width),
        "mar.z_proj.weight": (width, token),
        "mar.encoder_pos_embed_learned": (1, 3 + 16, width),
        "mar.encoder_blocks.1.attn.qkv.weight": (3 * width, width),
        "mar.encoder_blocks.1.mlp.fc1.weight": (4 * width, width),
        "mar.mask_token": (1, 1, width),
        "mar.decoder_embed.bias": (width,),
        "mar.decoder_blocks.0.norm2.weight": (width,),
        "mar.diffusion_pos_embed_learned": (1, 16, width),
        "mar.diffloss.net.time_embed.mlp.0.weight": (heads, 256),
        "mar.diffloss.net.cond_embed.weight": (heads, width),
        "mar.diffloss.net.input_proj.weight": (heads, token),
        "mar.diffloss.net.res_blocks.1.in_ln.weight": (heads,),
        "mar.diffloss.net.res_blocks.1.adaLN_modulation.1.weight": (3 * heads, heads),
        "mar.diffloss.net.final_layer.adaLN_modulation.1.weight": (2 * heads, heads),
        "mar.diffloss.net.final_layer.linear.weight": (2 * token, heads),
        "llm.model.embed_tokens.weight": (40, 16),
        "llm.model.layers.1.self_attn.k_proj.bias": (8,),
        "llm.model.layers.1.mlp.down_proj.weight": (16, 24),
        "llm.model.norm.weight": (16,),
        "llm.lm_head.weight": (40, 16),
        "proj_in.2.weight": (16, 16),
        "proj_out.0.bias": (16,),
        "vae.encoder.down.4.attn.1.proj_out.weight": (128, 128, 1, 1),
        "vae.encoder.down.3.downsample.conv.weight": (64, 64, 3, 3),
        "vae.decoder.up.1.upsample.conv.bias": (32,),
        "vae.decoder.up.4.block.2.conv2.weight": (128, 128, 3, 3),
        "vae.decoder.mid.attn_1.q.weight": (128, 128, 1, 1),
        "vae.quant_conv.weight": (8, 8, 1, 1),
    }
    made = {name: torch.randn(shape) for name, shape in shapes.items()}
    rest = Harmon(config).state_dict()
    tensors = {**rest, **made}
    assert set(made) - set(rest) == {"mar.class_emb.weight", "llm.lm_head.weight"}
    files = folder / "harmon_0.5b.pth", folder / "kl16.ckpt"
    torch.save({k: v for k, v in tensors.items() if not k.startswith("vae.")}, files[0])
    vae = {k.removeprefix("vae."): v for k, v in tensors.items() if k.startswith("vae.")}
    torch.save({"model": vae}, files[1])
    return files, tensors


def test_the_originals_names_load_and_it_draws(tmp_path):
    config = small_original()
    files, tensors = made_files(tmp_path, config)
    network = harmon.published(files, config)
    assert network.signature == "harmon:pretrained"
    for name, value in network.state_dict().items():
        assert torch.equal(value, tensors[name]), name
    picture = network.sample("cat", (32, 32), rng())
    assert picture.shape == (32, 32, 3)
    together = tmp_path / "all.safetensors"
    save_file({name: value.contiguous() for name, value in tensors.items()}, together)
    again = harmon.published([together], config)
    np.testing.assert_array_equal(again.sample("cat", (32, 32), rng()), picture)
    (tmp_path / base.FILE).write_bytes(base.to_bytes(network))
    np.testing.assert_array_equal(base.load(tmp_path).sample("cat", (32, 32), rng()), picture)


def test_files_that_do_not_fit_are_one_line(tmp_path):
    config = small_original()
    files, tensors = made_files(tmp_path, config)
    with pytest.raises(IncompatibleCheckpointError, match=r"vae\.encoder.* is missing"):
        harmon.published(files[:1], config)
    with pytest.raises(MissingDataError, match="No file"):
        harmon.published([tmp_path / "none.pth"], config)
    torch.save(tensors | {"mar.extra": torch.zeros(1)}, files[0])
    with pytest.raises(IncompatibleCheckpointError, match=r"mar\.extra is \(1,\), not known"):
        harmon.published(files, config)
    torch.save(tensors | {"mar.mask_token": torch.zeros(1, 1, 2)}, files[0])
    with pytest.raises(IncompatibleCheckpointError, match=r"expected \(1, 1, 16\)"):
        harmon.published(files, config)
    files[0].write_bytes(b"no tensors")
    with pytest.raises(IncompatibleCheckpointError, match="plain tensors"):
        harmon.published(files, config)


@pytest.mark.parametrize(
    ("name", "width", "parameters"), [("harmon_0_5b", 896, 0.9e9), ("harmon_1_5b", 1536, 2.9e9)]
)
def test_the_published_designs_have_the_published_sizes(name, width, parameters):
    prompts = harmon.prompts_of(CLASSES, lambda text: [len(text)])
    config = dataclasses.replace(harmon.PUBLISHED[name], classes=CLASSES, prompts=prompts)
    with torch.device("meta"):
        network = Harmon(config)
    state = network.state_dict()
    assert state["llm.model.embed_tokens.weight"].shape == (151_936, width)
    assert state["mar.encoder_pos_embed_learned"].shape[1] == 64 + 256
    assert math.isclose(sum(p.numel() for p in network.parameters()), parameters, rel_tol=0.35)


@pytest.mark.parametrize(
    "wrong",
    [
        {"px": 62},
        {"px": 0},
        {"patch": 0},
        {"steps": 0},
        {"head_steps": 1},
        {"bound": math.nan},
        {"guidance": math.inf},
        {"prompts": ((1,), (2,))},
        {"classes": CLASSES, "prompts": ((1,), (2,), ())},
        {"classes": CLASSES, "language": Language("qwen2")},
        {"classes": CLASSES, "prompts": ((1,), (2,), (3,))},
    ],
    ids=str,
)
def test_impossible_configs_are_refused(wrong):
    with pytest.raises(RecipeError):
        Harmon(dataclasses.replace(GENERATOR.tiny, **({"classes": ()} | wrong)))


def test_impossible_sizes_are_refused():
    for build in (
        lambda: Sizes(width=10, heads=4),
        lambda: Sizes(layers=0),
        lambda: Language(hidden=5),
        lambda: FirstStage(scale=0.0),
        lambda: FirstStage("small", small=Design(channels=5)),
        lambda: FirstStage("kl16", width=48),
    ):
        with pytest.raises(RecipeError):
            build()
