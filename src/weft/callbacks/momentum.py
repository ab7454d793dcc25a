"""Averages of the gradient, and what becomes of them in the update."""

from weft.callback import mark, state, zeros
from weft.contract.declare import scalar_dtype

__all__ = [
    "aggregate",
    "average",
    "debias",
    "ema",
    "heavy_ball",
    "interpolate",
    "mix_gradient",
    "nesterov",
    "nesterov_debias",
    "nesterov_ema",
    "nesterov_product",
    "quasi_hyperbolic",
    "sign",
]


@mark(place="statistics", sparse="dense")
def heavy_ball(update, momentum=0.9, dampening=None, momentum_buffer=None):
    """Momentum as a sum: the first update fills the buffer whole.

        b <- momentum * b + (1 - dampening) * u;  u <- b

    Polyak, 1964. torch seeds the buffer with the first update, without dampening; where a chain is
    not given any, it is 0.
    """
    if momentum_buffer is None:
        buffer = update
    else:
        entering = update if dampening is None else (1 - dampening) * update
        buffer = momentum * momentum_buffer + entering
    return {"momentum_buffer": buffer, "update": buffer}


@mark(place="statistics")
def ema(update, betas=(0.9, 0.999), exp_avg=zeros):
    """Momentum as an exponential moving average.

    m <- beta1 * m + (1 - beta1) * u;  u <- m
    """
    exp_avg = exp_avg.lerp(update, 1 - betas[0])
    return {"exp_avg": exp_avg, "update": exp_avg}


@mark(place="statistics")
def average(update, momentum=0.9, momentum_buffer=zeros):
    """Momentum as an average of one decay, started at zero and not corrected.

    b <- momentum * b + (1 - momentum) * u;  u <- b
    """
    buffer = momentum_buffer.lerp(update, 1 - momentum)
    return {"momentum_buffer": buffer, "update": buffer}


@mark(place="update", role="debias")
def debias(update, step, betas=(0.9, 0.999)):
    """Correct an average that started at zero.

        u <- u / (1 - beta1^t)

    Kingma and Ba, 2014, arXiv:1412.6980.
    """
    return {"update": update / (1 - betas[0] ** step)}


@mark(place="update", sparse="dense", role="nesterov")
def nesterov(update, grad, momentum=0.9):
    """Look ahead along the momentum.

        u <- g + momentum * u

    Nesterov, 1983; in this form Sutskever et al., 2013.
    """
    return {"update": grad + momentum * update}


@mark(place="update", role="nesterov")
def nesterov_ema(update, grad, betas=(0.9, 0.999)):
    """Look ahead along an average: u <- beta1 * u + (1 - beta1) * g."""
    return {"update": grad.lerp(update, betas[0])}


@mark(place="update", role="debias")
def nesterov_debias(grad, exp_avg, step, betas=(0.9, 0.999)):
    """Nesterov's look-ahead for an average, each term with the correction of its own age.

        u <- beta1 * m / (1 - beta1^(t+1)) + (1 - beta1) * g / (1 - beta1^t)

    Dozat, 2016, without the warm-up of the momentum.
    """
    b = betas[0]
    ahead, now = b / (1 - b ** (step + 1)), (1 - b) / (1 - b**step)
    return {"update": ahead * exp_avg + now * grad}


@mark(place="update", role="debias")
def nesterov_product(
    grad, exp_avg, step, betas=(0.9, 0.999), momentum_decay=4e-3,
    mu_product=state(1.0, dtype=scalar_dtype),
):  # fmt: skip
    """Nesterov's look-ahead for an average, with a momentum that warms up.

        mu_t = beta1 * (1 - 0.96^(t * momentum_decay) / 2);   P <- P * mu_t
        u <- (1 - mu_t) / (1 - P) * g + mu_{t+1} / (1 - P * mu_{t+1}) * m

    Dozat, 2016. momentum_decay is 0.004 in the paper and torch, 1 in Keras.
    """
    mu = betas[0] * (1 - 0.5 * 0.96 ** (step * momentum_decay))
    mu_next = betas[0] * (1 - 0.5 * 0.96 ** ((step + 1) * momentum_decay))
    mu_product = mu_product * mu
    P = mu_product.double()
    update = (1 - mu) / (1 - P) * grad + mu_next / (1 - P * mu_next) * exp_avg
    return {"update": update, "mu_product": mu_product}


@mark(place="update", bounds={"nus": ">= 0, <= 1"})
def quasi_hyperbolic(update, grad, nus=(0.7, 1.0)):
    """Mix the gradient itself into its average.

        u <- (1 - nu1) * g + nu1 * u

    Ma and Yarats, 2018, arXiv:1810.06801.
    """
    return {"update": (1 - nus[0]) * grad + nus[0] * update}


@mark(place="update")
def interpolate(grad, betas=(0.9, 0.99), exp_avg=zeros):
    """Lion's update: between the momentum as it was and the gradient; then the momentum moves.

        u <- beta1 * m + (1 - beta1) * g;   m <- beta2 * m + (1 - beta2) * g

    Chen et al., 2023, arXiv:2302.06675.
    """
    update = betas[0] * exp_avg + (1 - betas[0]) * grad
    return {"update": update, "exp_avg": exp_avg.lerp(grad, 1 - betas[1])}


@mark(place="update")
def sign(update):
    """Keep only the sign: u <- sign(u)."""
    return {"update": update.sign()}


@mark(place="update", bounds={"nu": ">= 0, <= 1"})
def mix_gradient(update, grad, nu=0.7):
    """Mix the gradient itself into a momentum.

        u <- (1 - nu) * g + nu * u

    Ma and Yarats, 2018, arXiv:1810.06801 (QHM).
    """
    return {"update": (1 - nu) * grad + nu * update}


@mark(place="statistics")
def aggregate(update, grad, betas=(0.0, 0.9, 0.99), k=0, momentum_buffer=zeros):
    """One of several momenta whose mean is the update; the first takes the update's place.

        b_k <- beta_k * b_k + g;   u <- u + b_k / K

    Lucas et al., 2018, arXiv:1804.00325 (AggMo).
    """
    if k >= len(betas):
        raise ValueError(f"betas={betas} has no decay for momentum k={k}")
    buffer = betas[k] * momentum_buffer + grad
    share = buffer / len(betas)
    return {"momentum_buffer": buffer, "update": share if k == 0 else update + share}
