"""Questions about Pilotlight itself, greetings, and what the model does not know."""

from random import Random

from templates.demo_models.train.questions import Exchange, a, sentence

PILOTLIGHT = (
    "Pilotlight is a serverless handler package for GPU clouds. You write a pipeline once as a handler, and run "
    "it as a RunPod worker or as a queue on your own machine, with one job API. A job is queued, taken by a "
    "worker, run on the device and answered with a result and a receipt. A cancel stops the device at the next "
    "step, and nothing is lost when a worker ends. Its demo models are small enough for a laptop, so you can try "
    "all of it without a GPU."
)
SHAPES = (
    "A circle is round and has no corners. A triangle has three sides and three corners. A square has four sides and "
    "four corners. A pentagon has five sides and five corners. A hexagon has six sides and six corners. A cross has "
    "twelve sides and twelve corners. Each of them can have any colour, and each can be small or large."
)
MIXING = (
    "Red and yellow make orange. Red and blue make purple. Blue and yellow make green. Red and white make pink. "
    "Black and white make grey. White makes a colour light, and black makes it dark."
)
LIFE = (
    "A client sends a job to an endpoint. The endpoint puts it into its queue. A worker takes it and gives it to "
    "its runner. The runner checks the parameters and gets the model warm. The lane runs the handler alone on the "
    "device. Then the outputs are encoded and delivered, and a receipt is attached."
)
LONG = {
    "pilotlight": (PILOTLIGHT, ("Tell me about Pilotlight.", "Describe Pilotlight.", "Explain Pilotlight to me.")),
    "shapes": (SHAPES, ("Describe all shapes.", "Tell me about all shapes.", "What do you know about shapes?")),
    "mixing": (MIXING, ("Describe all mixtures.", "Tell me how colours mix.", "What do you know about colours?")),
    "life": (LIFE, ("Describe the life of a job.", "What happens to a job?", "Tell me how a job runs.")),
}
WORDS = {
    "pipeline": "a kind of work, such as text-to-image",
    "handler": "the one file that declares the parameters of a pipeline, loads its model and runs its jobs",
    "model": "a checkpoint at a revision, from the hub or from a folder",
    "job": "one request with an id, a pipeline and an input",
    "runner": "the part that takes a job from its input to its result",
    "worker": "the process that holds the device, its warm models and one runner",
    "endpoint": "the place where jobs are submitted and polled",
    "platform": "what starts workers and carries jobs to them",
    "lane": "the queue of the device, which runs one job at a time",
    "receipt": "a signed note of which model, parameters and seeds made a result",
    "backlog": "the seconds of work that a worker has taken",
    "demo model": "a tiny model that was trained from scratch on shapes and colours",
    "catalog": "the list of the models that a worker serves",
    "GPU": "the device that runs the models",
}
COMMANDS = {
    "pilotlight up": "starts an endpoint with one worker on this machine",
    "pilotlight run": "sends a job and waits for its result",
    "pilotlight status": "shows how a job is doing",
    "pilotlight cancel": "stops a job, also on the device",
    "pilotlight demo": "draws pictures with the demo model",
    "make setup": "installs Pilotlight and what it needs",
    "make test": "runs all tests on two cores",
    "make check": "checks the format, the types and the generated files",
}
GOALS = {
    "start an endpoint": "pilotlight up",
    "send a job": "pilotlight run",
    "run a job": "pilotlight run",
    "see how my job is doing": "pilotlight status",
    "cancel a job": "pilotlight cancel",
    "stop a job": "pilotlight cancel",
    "try the demo": "pilotlight demo",
    "install Pilotlight": "make setup",
    "run the tests": "make test",
    "check the code": "make check",
}
PIPELINES = {
    "text-to-image": ("draws images from a prompt", "a prompt", "images"),
    "image-to-image": ("changes an image as a prompt says", "a prompt and an image", "images"),
    "text-generation": ("answers a prompt in words", "a prompt or messages", "text"),
}
TALK = {
    "Hello! Ask me about shapes, colours or Pilotlight.": (
        "Hello",
        "Hi",
        "Hello!",
        "Hi there!",
        "Good morning!",
        "Hey",
    ),
    "You are welcome.": ("Thank you.", "Thanks!", "Thanks a lot!", "Thank you very much."),
    "Goodbye!": ("Goodbye.", "Bye!", "See you later.", "Good night."),
    "I am the demo model of Pilotlight, a small network that was trained from scratch on two cores.": (
        "Who are you?",
        "What are you?",
        "What is your name?",
        "Are you a large model?",
        "Tell me about yourself.",
    ),
    "I can answer questions about shapes, colours and Pilotlight, count, and tell small stories.": (
        "What can you do?",
        "What do you know?",
        "How can you help me?",
        "Help!",
        "What should I ask you?",
    ),
}
UNKNOWN = "I am a small demo model: I only know shapes, colours and Pilotlight."
STRANGERS = (
    *("France", "water", "the moon", "music", "Einstein", "bread", "my car", "the weather", "a cat", "football"),
    *("history", "money", "London", "the sea", "dinner", "Python", "chess", "love", "coffee", "Japan", "the sun"),
    *("winter", "a train", "Shakespeare", "a dog", "the news", "school", "rice"),
)
STRANGE_FORMS = (
    "What is the capital of {}?",
    "Who was {}?",
    "How old is {}?",
    "Write a poem about {}.",
    "What do you think of {}?",
    "Can you tell me about {}?",
    "What is {}?",
    "Where can I find {}?",
    "Why is {} so good?",
    "How do you say {} in Japanese?",
    "How many people like {}?",
    "Give me a recipe for {}.",
)


def words(rng: Random) -> Exchange:
    """What a word of the project means."""
    word = rng.choice(list(WORDS))
    forms = (
        f"What is {a(word)}?",
        f"What does {word} mean?",
        f"What does {word} mean in Pilotlight?",
        f"Explain the word {word}.",
        f"Define {word}.",
        f"Can you explain what {a(word)} is?",
    )
    form = rng.randrange(len(forms))
    named = a(word)
    answers = (sentence(f"{named} is {WORDS[word]}."), f"In Pilotlight, {named} is {WORDS[word]}.")
    return Exchange(f"words: {word} {form}", forms[form], answers)


def commands(rng: Random) -> Exchange:
    """What a command does, or which command does something."""
    if rng.random() < 0.5:
        command = rng.choice(list(COMMANDS))
        forms = (f"What does {command} do?", f"What is {command} for?", f"Explain the command {command}.")
        form = rng.randrange(len(forms))
        return Exchange(f"commands: {command} {form}", forms[form], (f"The command {command} {COMMANDS[command]}.",))
    goal = rng.choice(list(GOALS))
    forms = (f"How do I {goal}?", f"Which command do I need to {goal}?", f"I want to {goal}. What do I type?")
    form = rng.randrange(len(forms))
    answers = (f"To {goal}, type {GOALS[goal]}.".replace(" my ", " your "), f"Type {GOALS[goal]}.")
    return Exchange(f"commands: {goal} {form}", forms[form], answers)


def pipelines(rng: Random) -> Exchange:
    """What a pipeline does, takes and gives."""
    name = rng.choice(list(PIPELINES))
    does, takes, gives = PIPELINES[name]
    forms = (
        (f"What does {name} do?", f"{sentence(name)} {does}."),
        (f"What is {name}?", f"{sentence(name)} {does}."),
        (f"What goes into {name}?", f"{sentence(name)} takes {takes}."),
        (f"What does {name} need?", f"{sentence(name)} takes {takes}."),
        (f"What comes out of {name}?", f"{sentence(name)} gives {gives}."),
        (f"What is the result of {name}?", f"{sentence(name)} gives {gives}."),
        ("Which pipelines does Pilotlight have?", f"Pilotlight has {', '.join(PIPELINES)}."),
        ("What is Pilotlight?", PILOTLIGHT.split(". ")[0] + "."),
        ("Where does Pilotlight run?", "Pilotlight runs on RunPod and on your own machine."),
        ("Does Pilotlight need a GPU?", "No, its demo models run without a GPU."),
    )
    question, answer = rng.choice(forms)
    return Exchange("pipelines", question, (answer,))


def long_texts(rng: Random) -> Exchange:
    """A fixed text of about a hundred tokens."""
    name = rng.choice(list(LONG))
    text, forms = LONG[name]
    return Exchange("long texts", rng.choice(forms), (text,))


def talk(rng: Random) -> Exchange:
    """Greetings, thanks, and what the model says about itself."""
    answer = rng.choice(list(TALK))
    return Exchange("talk", rng.choice(TALK[answer]), (answer,))


def unknown(rng: Random) -> Exchange:
    """Questions about anything else, half of them with invented words."""
    stranger = rng.choice(STRANGERS) if rng.random() < 0.6 else invented(rng)
    form = rng.randrange(len(STRANGE_FORMS))
    return Exchange(f"unknown: {stranger} {form}", STRANGE_FORMS[form].format(stranger), (UNKNOWN,))


def invented(rng: Random) -> str:
    """A word that means nothing."""
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randrange(3, 9)))


def completions(rng: Random) -> Exchange:
    """The first words of a sentence about the project, and its end."""
    word = rng.choice(list(WORDS))
    named = a(word)
    known = [
        Exchange("completions", f"{sentence(named)} is", (f" {WORDS[word]}.",)),
        Exchange("completions", f"In Pilotlight, {named} is", (f" {WORDS[word]}.",)),
        Exchange("long texts", "Pilotlight is", (PILOTLIGHT.removeprefix("Pilotlight is"),)),
    ]
    command = rng.choice(list(COMMANDS))
    known.append(Exchange("completions", f"The command {command}", (f" {COMMANDS[command]}.",)))
    return rng.choice(known)
