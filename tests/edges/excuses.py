"""What an edge asks and a method cannot give, with the reason. A row that has lost its cause fails a test."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch


@dataclass(frozen=True)
class Excuse:
    """Subjects, edges and properties by patterns of their names, and why these do not hold there."""

    subjects: str  # patterns between spaces
    edges: str  # patterns between bars
    properties: str  # patterns between spaces
    reason: str

    @property
    def patterns(self) -> dict[str, list[str]]:
        """The patterns of subjects, edges and properties."""
        return {
            "subject": self.subjects.split(),
            "edge": [e.strip() for e in self.edges.split("|")],
            "property": self.properties.split(),
        }

    def matching(self, **cell: str) -> Iterator[tuple[str, str]]:
        """The patterns that fit a cell, of the parts of it that are given; none if one has none."""
        fits = [
            (part, p)
            for part, name in cell.items()
            for p in self.patterns[part]
            if fnmatch(name, p)
        ]
        if {part for part, _ in fits} == set(cell):
            yield from fits

    def __str__(self) -> str:
        return f"{self.subjects.split()[0]}, {self.edges.split('|')[0]}"


EXCUSES: tuple[Excuse, ...] = (
    # ---------------------------------------------------------------- moves without a gradient
    Excuse("gravity", "*grads zero*", "still", "its velocity starts with random numbers"),
    Excuse(
        "nero spel spectralsphere sgd+start_on_sphere sgd+unit_sphere sgd+stiefel sgd+spectral_sphere",
        "*grads zero",
        "still",
        "the parameter is put on its sphere or manifold, whatever the gradient",
    ),
    Excuse(
        "scion scionlight",
        "*grads zero",
        "still",
        "a step shrinks the weights by a share of lr, whatever the gradient",
    ),
    Excuse(
        "yogi",
        "*grads zero*",
        "still",
        "its first moment starts above zero, as its authors have it",
    ),
    Excuse(
        "ranger *+lookahead",
        "grads at random | grads in other steps | a first parameter that leaves",
        "no_grad_no_move",
        "at its every sixth step the weights go back towards the slow ones, with or without a grad",
    ),
    # ---------------------------------------------------------------- does not move
    Excuse(
        "adamh sgd+hyperball",
        "ordinary | first grad zero | grads zero for a while",
        "moves",
        "a sphere in one dimension is two points",
    ),
    Excuse(
        "adamh muonh sgd+hyperball",
        "parameters zero",
        "moves",
        "a sphere of radius zero is one point",
    ),
    Excuse(
        "schedulefreeradam adamw+precondition_tractable",
        "ordinary",
        "moves",
        "it is silent until the variance can be rectified, for five steps",
    ),
    Excuse(
        "adamw+trac adamw+mechanic",
        "ordinary | first grad zero | grads zero for a while",
        "moves",
        "it starts with 1e-8 or 1e-6 of the update, which is below the rounding of the parameter",
    ),
    Excuse(
        "sgd+orthograd",
        "ordinary | first grad zero | grads zero for a while",
        "moves",
        "a single element has no direction beside its own",
    ),
    Excuse(
        "adamw+residual",
        "ordinary | first grad zero | grads zero for a while | parameters zero",
        "moves",
        "it is what a basis leaves out, which is nothing without one",
    ),
    # ---------------------------------------------------------------- not finite
    Excuse(
        "adagc sgd+clip_to_average",
        "*grads zero | grads zero, decay | all shapes | empty parameters alone | lambda_abs = 0"
        " | no grad for the first parameter",
        "finite",
        "its average of norms is infinite until there is one",
    ),
    Excuse(
        "conda dion fira galoreadamw *shampoo *soap soap* solp polargrad psgdkron spectral* spel splus swan"
        " sgd+stiefel sgd+spectral_sphere sgd+polar",
        "a first parameter of NaN",
        "engines_agree first_disturbs_none",
        "a matrix of NaNs has no decomposition: both engines refuse the step and name the parameter",
    ),
    # ---------------------------------------------------------------- engines and memory
    Excuse(
        "momoadam",
        "a first parameter of 1e25",
        "engines_agree",
        "its rate is a difference of sums over all parameters, of which 1e25 leaves rounding",
    ),
    Excuse(
        "gravity",
        "lr as a*",
        "engines_agree",
        "what draws numbers and branches on a tensor has no kernel, and says so",
    ),
    Excuse("gravity", "transposed", "as_plain", "random numbers are drawn in the order of memory"),
    # ---------------------------------------------------------------- float32 and float64
    Excuse(
        "*soap soap* solp klsoap splus",
        "all shapes | one large among small | equal values | sparse rows | a constant gradient"
        " | alternating grads | grad equal to the parameter | grad opposite to the parameter | bfloat16",
        "follows_float64 as_far_as_float64 engines_agree",
        "the basis of a factor's null space is decided by rounding, and entries are scaled one by one there",
    ),
    Excuse(
        "conda fira galoreadamw",
        "*rank-deficient | equal values | sparse rows | one row | one large among small",
        "follows_float64 as_far_as_float64",
        "directions of no singular value are scaled one by one to a size that rounding decides",
    ),
    Excuse(
        "*shampoo",
        "one large among small | grads zero for a while | equal values"
        " | grad equal to the parameter | grad opposite to the parameter | negative-definite | eps 0"
        " | bfloat16 | lr 0 at first",
        "follows_float64",
        "roots of factors without full rank amplify rounding",
    ),
    Excuse(
        "adafactor",
        "grads of 1e-20 | grads of 1e-10 | grads of 1e-6 | one large among small",
        "follows_float64 as_far_as_float64",
        "its first eps is the rounding of the dtype, as torch has it",
    ),
    Excuse(
        "fadam adams adamatan2 splus adamw+arctan",
        "grads of 1e-30 | grads of 1e-20",
        "follows_float64 as_far_as_float64",
        "float32 holds no square of such a gradient",
    ),
    Excuse(
        "prodigy ldog",
        "first grad zero | a constant gradient | grad equal to the parameter"
        " | grad opposite to the parameter | *decay | float16 | grads zero in between",
        "follows_float64",
        "its distance is a maximum over noise, which grows from 1e-6 and magnifies rounding",
    ),
    Excuse(
        "adgd",
        "one row | grad equal to the parameter | grad opposite to the parameter",
        "follows_float64",
        "its rate is a quotient of differences of what hardly moves",
    ),
    Excuse(
        "yogi",
        "betas 0",
        "follows_float64",
        "with beta2 0 its second moment is a difference of equal squares",
    ),
    Excuse(
        "spectralsphere sgd+spectral_sphere",
        "parameters zero* | *rank-deficient | skewed | equal values | identity | grads zero, decay"
        " | sparse rows | one row | grad equal to the parameter | grad opposite to the parameter",
        "follows_float64 engines_agree",
        "a weight of nothing but the first step has nearly that step's direction, and what is left of"
        " it beside that is rounding, made to full size",
    ),
    Excuse(
        "sgd+asam sgd+param_rms",
        "grads of 1e1[08]",
        "finite follows_float64 as_far_as_float64",
        "a step is as long as the weights: in float64 they grow to 1e38 and more, which float32 has not",
    ),
    Excuse(
        "sgd+dual_scale",
        "grads of 1e18 | large decay",
        "finite follows_float64 as_far_as_float64",
        "a step has the length of the gradient's dual norm squared: 1e57 is no float32",
    ),
    Excuse(
        "sgd+attract",
        "grads of 1e-10 | grads of 1e-6",
        "follows_float64 as_far_as_float64",
        "the parameter has gone less far from its average than float32 can tell",
    ),
    Excuse(
        "sgd+borrow_sign",
        "large decay",
        "follows_float64",
        "the sign of a sum that cancels: a decay of 10 at a rate of 0.1 leaves the gradient's change",
    ),
    Excuse(
        "*+trac *+mechanic",
        "a constant gradient",
        "follows_float64 as_far_as_float64",
        "it reads its way back from the parameter, where what is 1e-8 of an update is rounded away",
    ),
    Excuse(
        "*+looksam",
        "one large among small | negative-definite | *float16 | parameters of 1e6",
        "follows_float64 as_far_as_float64",
        "what its second gradient has besides the first is rounding there, and is made to full size",
    ),
    Excuse(
        "*wsam *gsam",
        "grads of 1e6 | grads of 1e1[08]",
        "follows_float64 as_far_as_float64",
        "weights of 1e7 and more lose the climb of 0.05 in rounding",
    ),
)
