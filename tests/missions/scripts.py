"""Every mission by the name in its goal: what the scripted models know."""

from tests.endpoints.conversation import Scripts
from tests.missions import pier, plain

SCRIPTS = Scripts(
    {
        pier.NAME: pier.script,
        plain.ENDLESS: plain.endless,
        plain.SLEEPY: plain.sleepy,
        plain.ASKING: plain.asking,
        plain.COUNTED: plain.counted,
        plain.EFFECTS: plain.effects,
    }
)
