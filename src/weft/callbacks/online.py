"""From online learning and control: steps with statistics of their own."""

import torch

from weft.callback import copy_of_param, mark, zeros
from weft.callbacks.units import quotient

__all__ = ["accelerate", "bet", "follow_leader", "kate", "pid", "posterior", "smooth_root", "srmm"]


@mark(place="statistics")
def pid(
    grad, step, momentum=0.9, dampening=0.0, integral=5.0, derivative=10.0,
    momentum_buffer=zeros, derivative_buffer=zeros, previous_grad=zeros,
):  # fmt: skip
    """A controller: the gradient, its sum and its change.

        I <- momentum * I + (1 - dampening) * g
        D <- momentum * D + (1 - momentum) * (g - g_prev);   u <- g + integral * I + derivative * D

    An et al., 2018. The first difference is 0.
    """
    diff = torch.zeros_like(grad) if step == 1 else grad - previous_grad
    i = momentum * momentum_buffer + (1 - dampening) * grad
    d = derivative_buffer.lerp(diff, 1 - momentum)
    return {
        "momentum_buffer": i, "derivative_buffer": d, "previous_grad": grad,
        "update": grad + integral * i + derivative * d,
    }  # fmt: skip


@mark(place="descend", bounds={"kappa": "> 0", "constant": "> 0", "xi": ">= 0"})
def accelerate(p, grad, lr, kappa=1000.0, xi=10.0, constant=0.7, momentum_buffer=copy_of_param):
    """Accelerated SGD: a long step averaged into a second point, a short one drawn to it.

        a = 1 - c^2 * xi / kappa;   w <- a * w + (1 - a) * (p - kappa * lr / c * g)
        p <- (c * (p - lr * g) + (1 - a) * w) / (c + 1 - a)

    Jain et al., 2017, arXiv:1704.08227. w starts at the parameter.
    """
    rest = constant**2 * xi / kappa
    long = p - momentum_buffer - kappa * lr / constant * grad
    point = momentum_buffer + rest * long
    share = rest / (constant + rest)  # as a move from p: without a gradient nothing is rounded
    return {"momentum_buffer": point, "p": p + share * (point - p) - (1 - share) * lr * grad}


@mark(place="descend", bounds={"beta": ">= 0", "l1": ">= 0", "l2": ">= 0"})
def follow_leader(p, grad, lr, beta=1.0, l1=0.0, l2=0.0, z=zeros, n=zeros):
    """Follow the regularised leader: the parameter in closed form from sums.

        z <- z + g - (sqrt(n + g^2) - sqrt(n)) / lr * p;   n <- n + g^2
        p <- -(z - sign(z) * l1) / ((beta + sqrt(n)) / lr + l2),   0 where |z| <= l1

    McMahan et al., 2013. Keras doubles l2 and starts n at 0.1. Before its first gradient, and at a
    rate of zero, an entry stays where it is.
    """
    if lr == 0:
        return None
    total = n + grad * grad
    z = z + grad - (total.sqrt() - n.sqrt()) / lr * p
    leader = -(z - z.sign() * l1) / ((beta + total.sqrt()) / lr + l2)
    leader = torch.where(z.abs() <= l1, torch.zeros_like(p), leader)
    return {"z": z, "n": total, "p": torch.where((total > 0) | (z != 0), leader, p)}


@mark(place="descend")
def bet(
    p, grad, lr, step, alpha=100.0, eps=1e-8,
    start=copy_of_param, largest=zeros, grad_sum=zeros, reward=zeros, theta=zeros,
):  # fmt: skip
    """Bet a fraction of what each coordinate has won on the sign of its next gradient.

        L <- max(L, |g|);   G <- G + |g|;   R <- max(R - (p - p0) * g, 0);   theta <- theta - g
        p <- p0 + theta / (L * max(G + L, alpha * L)) * (L + R)

    Orabona and Tommasi, 2017, arXiv:1705.07795. L starts at eps; lr multiplies the gradient.
    """
    g = lr * grad
    size = g.abs()
    bound = largest.clamp(min=eps if step == 1 else 0.0).maximum(size)
    total, won = grad_sum + size, (reward - (p - start) * g).clamp(min=0)
    theta = theta - g
    fraction = quotient(quotient(theta, bound), (total + bound).maximum(alpha * bound))
    return {
        "largest": bound, "grad_sum": total, "reward": won, "theta": theta,
        "p": start + fraction * (bound + won),
    }  # fmt: skip


@mark(place="update", bounds={"ps": "> 0", "ghattg": ">= 0", "tau1": ">= 0", "tau2": ">= 0"})
def posterior(
    grad, step, ghattg=30.0, ps=1e-8, tau1=0.81, tau2=0.9, eps=1e-8,
    exp_avg=zeros, rate_g=zeros, rate_hg=zeros,
):  # fmt: skip
    """The posterior of the true gradient given the noisy one, as a Kalman filter would have it.

        m = (s_h * m_prev + s_g * g) / (s_g + s_h),   s2 = s_g * s_h / (s_g + s_h)
        u <- m / (sqrt(m^2 + s2) + eps);   the rates b_g, b_h follow with weights t^-tau1, t^-tau2

    Chen et al., 2024, arXiv:2404.06549 (VSGD). s_g, s_h are b_g, b_h over their shape.
    """
    prior_g, prior_h = 2 * ps, 2 * ghattg * ps
    b_g, b_h, shape = rate_g, rate_hg, 2 * ps + 1 + 1e-4
    if step == 1:
        b_g, b_h, shape = torch.full_like(grad, prior_g), torch.full_like(grad, prior_h), shape - 1
    m, var = precision_weighted(exp_avg, grad, b_h / shape, b_g / shape)
    return {
        "exp_avg": m,
        "rate_g": b_g.lerp(prior_g + var + (m - exp_avg) ** 2, step**-tau1),
        "rate_hg": b_h.lerp(prior_h + var + (m - grad) ** 2, step**-tau2),
        "update": m / ((m * m + var).sqrt() + eps),
    }


def precision_weighted(a, b, weight_a, weight_b):
    """The mean of two values with these weights, and its variance."""
    total = weight_a + weight_b
    return weight_a / total * a + weight_b / total * b, weight_a * (weight_b / total)


@mark(place="descend", bounds={"memory_length": ">= 1", "beta": ">= 0, <= 1"})
def srmm(p, grad, lr, step, beta=0.5, memory_length=100, mov_avg_grad=zeros, mov_avg_param=zeros):
    """Step from an average of the parameters along an average of the gradients.

        w = n^-beta,  n = 1, 2, ..., memory_length, 1, ...
        g' <- (1 - w) * g' + w * g;   p' <- (1 - w) * p' + w * p - lr * g';   p <- p'

    Lyu, 2022, arXiv:2201.01652 (regularised majorization-minimization).
    """
    weight = ((step - 1) % memory_length + 1) ** -beta
    g = mov_avg_grad.lerp(grad, weight)
    point = mov_avg_param.lerp(p, weight) - lr * g
    return {"mov_avg_grad": g, "mov_avg_param": point, "p": point}


@mark(place="update", bounds={"eta": ">= 0"})
def kate(grad, eta=0.0, eps=1e-8, b_sq=zeros, m_sq=zeros):
    """Adagrad without a root in the denominator: invariant to the scale of the data.

        b2 <- b2 + g^2 + eps;   m2 <- m2 + eta * g^2 + g^2 / b2;   u <- sqrt(m2) * g / b2

    Choudhury et al., 2024, arXiv:2403.02648.
    """
    square = grad * grad
    b_sq = b_sq + square + eps
    m_sq = m_sq + eta * square + quotient(square, b_sq)
    return {"b_sq": b_sq, "m_sq": m_sq, "update": m_sq.sqrt() * quotient(grad, b_sq)}


@mark(place="update", role=("precondition", "correction"))
def smooth_root(
    p, grad, betas=(0.5, 0.99), eps=1e-6,
    prev_param=copy_of_param, s=zeros, n=zeros, exp_avg_sq=zeros,
):  # fmt: skip
    """Divide by a mean square whose window follows how straight the way has been.

        e = |sum of moves| / (sum of |moves| + eps);   c = (beta2 - beta1) * e + 1 - beta2
        v <- (1 - c^2) * v + c^2 * g^2;   u <- g / sqrt(v + eps)

    Lu, 2022, arXiv:2204.00825 (AdaSmooth). The sums run from the start.
    """
    move = p - prev_param
    s, n = s + move, n + move.abs()
    c = (betas[1] - betas[0]) * quotient(s.abs(), n + eps) + 1 - betas[1]
    v = exp_avg_sq + c * c * (grad * grad - exp_avg_sq)
    update = quotient(grad, (v + eps).sqrt())
    return {"s": s, "n": n, "exp_avg_sq": v, "prev_param": p, "update": update}
