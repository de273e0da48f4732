"""Words of English and Portuguese that tell a follow-up from a question that stands alone."""

from __future__ import annotations

CLOSE = 2  # content words: with no more than that, a turn leans on the one before
REFERRING = 7  # content words: with no more than that, a pronoun or an opener leans too
LONG = 24  # words: a longer turn brings its own subject


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What points back. With accents, since "esta" does and "está" does not; without "that" and "que", which mostly join.
PRONOUNS = _words(
    """
    it its itself they them their theirs these those this he him his she her hers ones same other others another former
    latter both neither either previous above
    ele ela eles elas isso isto aquilo esse essa esses essas este esta estes estas aquele aquela aqueles aquelas dele
    dela deles delas nele nela neles nelas disso disto daquilo desse dessa desses dessas deste desta destes destas nesse
    nessa nesses nessas neste nesta nisso nisto naquele naquela daquele daquela seu sua seus suas lhe lhes lá aí ali
    mesmo mesma mesmos mesmas outro outra outros outras ambos ambas anterior
    """
)
POINTING_ENDS = ("-lo", "-la", "-los", "-las", "-lhe", "-lhes", "-o", "-a", "-os", "-as")  # as in "pagá-la"

# What a turn begins with that goes on from the one before.
OPENERS = _words("and but or so also then why else instead e mas ou então entao também tambem porque")
OPENING_PAIRS = frozenset(
    tuple(pair.split())
    for pair in (
        *("what about", "how about", "what if", "what else", "how come", "tell me"),
        *("por que", "por quê", "que mais", "como assim", "fala mais"),
    )
)

# What carries no meaning by itself; without accents.
STOPWORDS = PRONOUNS | _words(
    """
    a about after again all also am an and any are as at be because been before being but by can could did do does
    doing don't doesn't didn't each else for from further get give had has have having how how's i i'd i'll i'm i've if
    in instead into is isn't it's let's like may me might more most much must my need no nor not now of off ok okay on
    once only or our out over own please put say shall should so some such tell than thank thanks that that's the then
    there through to too under until up us very want was wasn't we were what what's when where where's which while who
    who's whom whose why will with won't would yes you your yours explain mean show
    ai ao aos aqui as ate bem cada com como da das de do dos e em entao entre era eram estao estar estava eu fala favor
    faz fazer foi foram ha ja la mais mas me meu meus minha minhas muito muita na nao nas nem no nos nossa nosso num
    numa o obrigada obrigado onde os ou para pela pelas pelo pelos per pode podem poderia por porque pra qual quais
    quando quanto quanta quantos quantas que quem quero sao se sem ser sera seria sim so sobre somos sou tal tambem te
    tem tenho ter tera teu teve tinha todo toda todos todas tu tua um uma umas uns vai vao voce voces diga diz explique
    mostre quer dizer
    """
)
