"""SpyncoGAN: the pseudo-cyclic training of Ratajczak et al. 2019 (section 4)."""

from collections.abc import Sequence

import torch
from mmagic.models.base_models import BaseTranslationModel
from mmagic.registry import MODELS
from mmagic.structures import DataSample
from mmengine.optim import OptimWrapperDict
from mmengine.utils.dl_utils import has_batch_norm
from torch import Tensor

from ..utils.checkpoint import type_name
from .adapter import AnyGenerator
from .base import require_whole
from .image_pool import ImagePool
from .losses import OSPLoss
from .steps import add_gradients, frozen, take_step


@MODELS.register_module()
class SpyncoGAN(BaseTranslationModel):
    """One generator, one discriminator, and a Handcrafted Translation in place of the second half.

    A is the grey domain, B the coloured one; I is an image of A and J an unpaired one of B. The
    generator minimises the sum of Eqs. 4, 6, 7, 8 and 9, each an :class:`OSPLoss` over the pyramid
    G_1(.), ..., G_N(.); a loss that is None is switched off, and an output whose weights are all 0
    is not computed. The discriminator minimises, least squares,

    .. math:: \\tfrac12 [ E_B[(D(J) - 1)^2]
        + \\sum_i \\gamma_i E_A[D(G_i(I))^2] / \\sum_i \\gamma_i ]

    on fakes that may come from an image pool, as in CycleGAN.

    Small batches of J, H_t(J) and I go through the generator as one batch, and so do the outputs
    through the discriminator. That makes fewer and larger kernels, and the same numbers as one by
    one if the norm is per sample, as instance norm is; a network with batch norm never gets them as
    one. Large batches gain little by it. There each of the three has its own backward pass right
    after its losses, so that the activations of only one are in memory at a time. The gradients add
    up to the same.

    Any registered generator can be used; one that returns a tensor is a pyramid of one.

    The optimizer wrapper is a dict with the keys ``generator`` and ``discriminator``.

    :meth:`train_step` decides on the host what a step needs, and :meth:`update` does it on the
    device without asking for any value. So the same lines run one by one, compiled, and captured as
    a CUDA graph (:class:`~spynco_mm.engine.CUDAGraphHook`). In several processes the networks are
    called without the wrappers of distributed training: :meth:`update` averages gradients itself,
    once for each network.

    Args:
        generator: Config of the generator, from replicated grey to colour.
        discriminator: Config of the discriminator; None for a model that only colorizes.
        data_preprocessor: Config of a ``BatchDataPreprocessor``, to [-1, 1] and, since H_t weighs
            red, green and blue, with ``output_channel_order="RGB"``; None for just that. Its
            ``data_keys`` are by default the images of the related domains.
        handcrafted_translation: Config of H_t. An ``ExactConsistency`` of the generator must have
            the same; a ``ContoursLoss`` that names none gets it.
        identity_loss: Config of Eq. 4's loss over the pyramid, G(J) against J.
        cycle_bab_loss: Of Eq. 6, G(H_t(J)) against J.
        cycle_aba_loss: Of Eq. 7, H_t(G(I)) against I.
        gan_loss: Of Eq. 8, scores of G(I); its inner loss is a ``GANLoss``.
        contours_loss: Of Eq. 9, G(I) against I; its inner loss is a ``ContoursLoss``.
        buffer_size: Images in the pool of each output; 0 for no pool.
        fast: Whether to join small batches and to split the backward pass of large ones, as said
            above. False runs the networks on one kind of image at a time, with one backward pass,
            as section 4.2 reads: for reference, and for networks in which anything but batch norm
            mixes the samples of a batch.
        joint_pixels: Pixels of a batch (N·H·W) up to which the three inputs of G are joined.
        default_domain, reachable_domains, related_domains: As mmagic's translation models name
            them. The images come as ``img_{domain}``.
    """

    LOSSES = ("identity_loss", "cycle_bab_loss", "cycle_aba_loss", "gan_loss", "contours_loss")

    def __init__(
        self,
        generator: dict,
        discriminator: dict | None = None,
        data_preprocessor: dict | None = None,
        handcrafted_translation: dict = dict(type="HandcraftedTranslation"),
        identity_loss: dict | None = None,
        cycle_bab_loss: dict | None = None,
        cycle_aba_loss: dict | None = None,
        gan_loss: dict | None = None,
        contours_loss: dict | None = None,
        buffer_size: int = 50,
        fast: bool = True,
        joint_pixels: int = 32768,
        default_domain: str = "color",
        reachable_domains: Sequence[str] = ("color",),
        related_domains: Sequence[str] = ("gray", "color"),
    ):
        if data_preprocessor is None:
            data_preprocessor = dict(type="BatchDataPreprocessor", output_channel_order="RGB")
        if isinstance(data_preprocessor, dict):
            keys = [f"img_{domain}" for domain in related_domains]
            data_preprocessor = {"data_keys": keys, **data_preprocessor}
        super().__init__(
            generator,
            discriminator,
            default_domain=default_domain,
            reachable_domains=list(reachable_domains),
            related_domains=list(related_domains),
            data_preprocessor=data_preprocessor,
        )
        if list(reachable_domains) != [default_domain] or len(related_domains) != 2:
            raise ValueError(
                "SpyncoGAN has one generator, so it needs one reachable domain, the default one, "
                f"and two related domains; got reachable_domains={list(reachable_domains)}, "
                f"default_domain='{default_domain}', related_domains={list(related_domains)}."
            )
        # One network each. As direct children they are wrapped, called and synchronised one by one
        # in distributed training; in a ModuleDict the wrapper's forward could not be called.
        self.generator = self.generators.pop(default_domain)
        del self.generators
        self.discriminator = self.discriminators.pop(default_domain) if discriminator else None
        del self.discriminators

        self.fast = fast
        self.joint_pixels = joint_pixels
        self.color_key = f"img_{default_domain}"
        self.gray_key = f"img_{self.get_other_domains(default_domain)[0]}"
        self.handcrafted_translation = MODELS.build(handcrafted_translation)
        self._check_translation()
        if contours_loss and type_name(contours_loss.get("loss", {}).get("type")) == "ContoursLoss":
            inner = {"translation": handcrafted_translation, **contours_loss["loss"]}
            contours_loss = {**contours_loss, "loss": inner}
        configs = (identity_loss, cycle_bab_loss, cycle_aba_loss, gan_loss, contours_loss)
        for name, config in zip(self.LOSSES, configs):
            setattr(self, name, self._build_loss(name, config))
        losses = [loss for name in self.LOSSES if (loss := getattr(self, name)) is not None]
        if losses and not any(loss.weights[0] for loss in losses):
            raise ValueError(
                "SpyncoGAN: the final output G_1 is in no loss, so the layers that make it would "
                "never be trained; give the first weight of some loss a positive value."
            )
        if self.gan_loss is not None and self.discriminator is None:
            raise ValueError(
                "SpyncoGAN: gan_loss needs a discriminator; give one or drop the loss."
            )
        require_whole(self, 0, buffer_size=buffer_size)
        self.image_buffers = [ImagePool(buffer_size) for _ in range(self._used(self.gan_loss))]

    @property
    def _g(self) -> AnyGenerator:
        """G of the equations: from images to the pyramid, whatever network it is."""
        return AnyGenerator(self.get_module(self.generator))

    def _check_translation(self) -> None:
        """Refuse settings under which H_t, or an evaluation, would take one channel for another."""
        order = self.data_preprocessor.output_channel_order
        if self.handcrafted_translation.in_channels == 3 and order != "RGB":
            raise ValueError(
                "SpyncoGAN: H_t weighs red, green and blue, so data_preprocessor needs "
                f"output_channel_order='RGB', got {order!r}."
            )
        if order == "RGB" and self.color_key not in (self.data_preprocessor.data_keys or ()):
            raise ValueError(
                f"SpyncoGAN: data_preprocessor needs '{self.color_key}' among its data_keys, or an "
                "evaluation would compare outputs in BGR with real images in RGB."
            )
        consistency = self._g.consistency
        if consistency is not None and not torch.equal(
            consistency.translation.weight, self.handcrafted_translation.weight
        ):
            raise ValueError(
                "SpyncoGAN: the generator's consistency and handcrafted_translation differ; give "
                "both the same weights."
            )

    def _build_loss(self, name: str, config: dict | None) -> OSPLoss | None:
        """The loss of a config; None if there is no config, or all its weights are 0."""
        if config is None:
            return None
        loss = MODELS.build(config)
        n = self._g.num_outputs
        if not isinstance(loss, OSPLoss) or len(loss.weights) != n:
            raise ValueError(
                f"SpyncoGAN: {name} must be an OSPLoss with {n} weights, one for each output of "
                f"the generator, got {config}."
            )
        trained = [weight for weight, p in loss.named_parameters() if p.requires_grad]
        if trained:
            raise ValueError(
                f"SpyncoGAN: {name} has the weights {', '.join(trained)}, but trains those of the "
                "generator and the discriminator only; freeze them, in its __init__."
            )
        return loss if loss.num_outputs else None

    @staticmethod
    def _used(*losses: OSPLoss | None) -> int:
        """How many outputs these losses look at."""
        return max((loss.num_outputs for loss in losses if loss is not None), default=0)

    def init_weights(self) -> None:
        """Initialise generator and discriminator, each in its own way."""
        for network in (self.generator, self.discriminator):
            if network is not None:
                self.get_module(network).init_weights()
        self._is_init = True

    # ---------------------------------------------------------------- domains

    def _domain_a(self, image: Tensor) -> Tensor:
        """I, as N×C_A×H×W, from an image of A that may come replicated over the channels of B."""
        h_t = self.handcrafted_translation
        if image.shape[1] not in (h_t.out_channels, h_t.in_channels):
            raise ValueError(
                f"SpyncoGAN: {self.gray_key} needs {h_t.out_channels} channels, or "
                f"{h_t.in_channels} to be translated, got {image.shape[1]}."
            )
        return h_t.to_domain_a(image)

    def _as_input(self, image: Tensor) -> Tensor:
        """I as the generator takes it: one channel is replicated over those of B (section 4.2)."""
        if image.shape[1] == 1:
            return image.expand(-1, self.handcrafted_translation.in_channels, -1, -1)
        return image

    # --------------------------------------------------------------- training

    def _generate_all(self, inputs: Sequence[Tensor], num_outputs: int) -> list[list[Tensor]]:
        """The pyramid of each of several batches of one shape."""
        if not self.fast or has_batch_norm(self.generator):
            return [self._g(images, num_outputs) for images in inputs]
        pyramid = self._g(torch.cat(list(inputs)), num_outputs)
        return [list(part) for part in zip(*(output.chunk(len(inputs)) for output in pyramid))]

    def _judge_all(self, images: Sequence[Tensor]) -> list[Tensor]:
        """The scores of each of several batches of one shape."""
        discriminator = self.get_module(self.discriminator)
        if not self.fast or has_batch_norm(discriminator):
            return [discriminator(image) for image in images]
        return list(discriminator(torch.cat(list(images))).chunk(len(images)))

    def _inputs(self) -> dict[str, list[OSPLoss]]:
        """What G is applied to, with the losses that are not switched off."""
        losses = {
            "J": [self.identity_loss],
            "H(J)": [self.cycle_bab_loss],
            "I": [self.cycle_aba_loss, self.gan_loss, self.contours_loss],
        }
        losses = {name: [x for x in group if x is not None] for name, group in losses.items()}
        losses = {name: group for name, group in losses.items() if group}
        if not losses:
            raise ValueError("SpyncoGAN: every loss is switched off, so there is nothing to train.")
        return losses

    def _parts(self, images: Tensor) -> list[list[str]]:
        """The inputs of G that share a backward pass, for batches like N×C×H×W ``images``."""
        inputs = list(self._inputs())
        joint = images.shape[0] * images.shape[2] * images.shape[3] <= self.joint_pixels
        return [inputs] if joint or not self.fast else [[name] for name in inputs]

    def generator_losses(
        self, real_a: Tensor, real_b: Tensor, inputs: Sequence[str] | None = None
    ) -> "tuple[dict, list]":
        """Eqs. 4 to 9 for I = ``real_a`` (N×C_A×H×W) and J = ``real_b`` (N×C_B×H×W).

        Args:
            real_a: I.
            real_b: J.
            inputs: Only the losses of G applied to these, out of ``"J"``, ``"H(J)"`` and ``"I"``.

        Returns:
            The losses by name, and the fakes G_1(I), ... that the discriminator judges, detached.
        """
        active = self._inputs()
        inputs = list(active if inputs is None else inputs)
        images = {"J": real_b, "I": self._as_input(real_a)}
        if "H(J)" in inputs:
            images["H(J)"] = self._as_input(self.handcrafted_translation(real_b))
        count = self._used(*(loss for name in inputs for loss in active[name]))
        pyramids = self._generate_all([images[name] for name in inputs], count)
        outputs = dict(zip(inputs, pyramids))  # outputs[name][i - 1] is G_i(name)

        losses, fakes = {}, []
        if "J" in outputs:  # Eq. 4: sum_i alpha_i |G_i(J) - J|
            losses["loss_identity"] = self.identity_loss(outputs["J"], real_b)
        if "H(J)" in outputs:  # Eq. 6: sum_i beta_i |G_i(H_t(J)) - J|
            losses["loss_cycle_bab"] = self.cycle_bab_loss(outputs["H(J)"], real_b)
        if "I" not in outputs:
            return losses, fakes
        if self.cycle_aba_loss is not None:  # Eq. 7: sum_i beta_i |H_t(G_i(I)) - I|
            cycled = [
                self.handcrafted_translation(o)
                for o in outputs["I"][: self.cycle_aba_loss.num_outputs]
            ]
            losses["loss_cycle_aba"] = self.cycle_aba_loss(cycled, real_a)
        if self.gan_loss is not None:  # Eq. 8, least squares: sum_i gamma_i (D(G_i(I)) - 1)^2
            fakes = outputs["I"][: self.gan_loss.num_outputs]
            scores = self._judge_all(fakes)
            losses["loss_gan_g"] = self.gan_loss(scores, True)
        if self.contours_loss is not None:  # Eq. 9: sum_i zeta_i |S_k(H_t(G_i(I))) - S_k(I)|
            losses["loss_contours"] = self.contours_loss(outputs["I"], real_a)
        return losses, [fake.detach() for fake in fakes]

    def plan_pools(self, images: Tensor) -> Tensor:
        """What the pools will do with fakes like N×C×H×W ``images``, drawn on the host: P×M."""
        plans = torch.tensor([pool.plan(len(images)) for pool in self.image_buffers])
        return plans.long().to(images.device, non_blocking=True)

    def discriminator_losses(
        self, fakes: Sequence[Tensor], real_b: Tensor, plans: Tensor
    ) -> dict[str, Tensor]:
        """Least squares on J and on fakes of G_1(I), ... out of the pools, weighted as in Eq. 8."""
        fakes = [p.exchange(fake, plan) for p, fake, plan in zip(self.image_buffers, fakes, plans)]
        real, *fakes = self._judge_all([real_b, *fakes])
        loss = self.gan_loss.loss
        return {
            "loss_gan_d_real": loss(real, True, is_disc=True) / 2,
            "loss_gan_d_fake": self.gan_loss(fakes, False, is_disc=True)
            / (2 * sum(self.gan_loss.weights)),
        }

    def train_step(self, data: dict, optim_wrapper: OptimWrapperDict) -> dict[str, Tensor]:
        """One update of the generator, then one of the discriminator.

        Args:
            data: A batch as the data loader gives it, with ``img_gray`` and ``img_color``.
            optim_wrapper: With the keys ``generator`` and ``discriminator``.

        Returns:
            The losses by name, as detached scalars on the device; also ``grad_norm_g`` and
            ``grad_norm_d`` where an optimizer wrapper has ``clip_grad`` by norm.
        """
        inputs = self.data_preprocessor(data, True)["inputs"]
        real_a, real_b = self._domain_a(inputs[self.gray_key]), inputs[self.color_key]
        if real_a.shape[0] != real_b.shape[0] or real_a.shape[2:] != real_b.shape[2:]:
            raise ValueError(
                f"SpyncoGAN trains on batches of one size, got {self.gray_key} "
                f"{'×'.join(map(str, real_a.shape))} and {self.color_key} "
                f"{'×'.join(map(str, real_b.shape))}; crop or resize both alike."
            )
        return self.update(real_a, real_b, self.plan_pools(real_b), optim_wrapper=optim_wrapper)

    def update(
        self, real_a: Tensor, real_b: Tensor, plans: Tensor, optim_wrapper: OptimWrapperDict
    ) -> dict[str, Tensor]:
        """The step itself, on the device alone.

        Args:
            real_a: I, N×C_A×H×W.
            real_b: J, N×C_B×H×W.
            plans: Of :meth:`plan_pools`.
            optim_wrapper: As in :meth:`train_step`.

        Returns:
            The same.
        """
        wrapper_g, log_vars, fakes = optim_wrapper["generator"], {"loss_g": 0.0}, []
        with frozen(self.discriminator):
            for part in self._parts(real_b):
                with wrapper_g.optim_context(self.generator):
                    losses, part_fakes = self.generator_losses(real_a, real_b, part)
                    loss_g, part_vars = self.parse_losses(losses)
                add_gradients(wrapper_g, loss_g)
                fakes += part_fakes
                log_vars["loss_g"] = log_vars["loss_g"] + part_vars.pop("loss")
                log_vars.update(part_vars)
        log_vars["grad_norm_g"] = take_step(wrapper_g)

        if fakes:
            wrapper_d = optim_wrapper["discriminator"]
            with wrapper_d.optim_context(self.discriminator):
                losses = self.discriminator_losses(fakes, real_b, plans)
                loss_d, log_vars_d = self.parse_losses(losses)
            add_gradients(wrapper_d, loss_d)
            log_vars_d["loss_d"] = log_vars_d.pop("loss")
            log_vars.update(log_vars_d, grad_norm_d=take_step(wrapper_d))
        # Without the graphs behind them.
        return {name: value.detach() for name, value in log_vars.items() if value is not None}

    # -------------------------------------------------------------- inference

    def _get_target_generator(self, domain: str) -> torch.nn.Module:
        if not self.is_domain_reachable(domain):
            raise ValueError(
                f"SpyncoGAN generates the domain {self._default_domain}, not '{domain}'."
            )
        return self.get_module(self.generator)

    def pyramid(self, image: Tensor, num_outputs: int | None = None) -> list[Tensor]:
        """Colorize grey images.

        Args:
            image: N×1×H×W, or replicated to N×3×H×W, in [-1, 1].
            num_outputs: How many outputs to compute, final output first; None for all.

        Returns:
            The pyramid, a list of N×3×H×W in [-1, 1], channels in the preprocessor's order.
        """
        return self._g(self._as_input(self._domain_a(image)), num_outputs)

    def translation(self, image: Tensor, target_domain: str | None = None, **kwargs) -> Tensor:
        """The final output alone, as mmagic's translation models return it."""
        self._get_target_generator(target_domain or self._default_domain)
        return self.pyramid(image, num_outputs=1, **kwargs)[0]

    def forward_test(self, img: Tensor, target_domain: str | None = None, **kwargs) -> dict:
        """Source and target of mmagic's inferencer, which takes them for BGR and writes RGB.

        Unlike CycleGAN's this does not switch to training mode: instance norm has no running
        statistics, so both modes give the same picture.
        """
        target = self.translation(img, target_domain, **kwargs)
        if self.data_preprocessor.output_channel_order == "RGB":
            img, target = img.flip(1), target.flip(1)
        return dict(source=img, target=target)

    @torch.no_grad()
    def val_step(self, data: dict) -> list[DataSample]:
        """Colorize a batch.

        Args:
            data: A batch as the data loader gives it. Only ``img_gray`` is needed.

        Returns:
            One ``DataSample`` per image, with its own fields and ``fake_color`` (3×H×W, the final
            output) and ``fake_color_pyramid`` (N×3×H×W, final output first), both in 0..255 and
            BGR as everywhere in mmagic's evaluation.
        """
        data = self.data_preprocessor(data)
        inputs, samples = data["inputs"], data["data_samples"]
        if isinstance(samples, DataSample):  # stacked by the preprocessor
            samples = samples.split(allow_nonseq_value=True)
        gray = inputs[self.gray_key] if isinstance(inputs, dict) else inputs
        pyramids = torch.stack(self.pyramid(gray), dim=1)
        # Images without an order, such as those of eight channels, keep the one they have.
        order = self.data_preprocessor.output_channel_order or "BGR"
        name = f"fake_{self._default_domain}"
        for sample in samples:
            sample.set_metainfo({f"{self.color_key}_output_channel_order": order})
        # mmagic's ``destruct``, but for all images at once; each has a padding of its own.
        preprocessor = self.data_preprocessor
        pyramids = preprocessor._destruct_norm_and_conversion(pyramids, samples, self.color_key)
        for sample, outputs in zip(samples, pyramids.clamp_(0, 255)):
            outputs = preprocessor._destruct_padding(outputs, sample)
            sample.set_tensor_data({name: outputs[0], f"{name}_pyramid": outputs})
        return samples

    test_step = val_step
