#!/usr/bin/env python3
"""make_tiny_text.py - the corpus of the embedded model: short English texts from a grammar.

    python scripts/make_tiny_text.py [--out data/text] [--bytes 240000] [--eval-bytes 24000]

Writes tiny.txt and tiny.eval.txt: documents separated by one empty line ("document_separator": "\\n\\n"),
no empty line inside a document. The same seed gives the same bytes; the two files are drawn with
different seeds and no document stands in both. Everything is written here, so the text is the project's own.
The same questions as chats (tiny.chat.jsonl, tiny.chat.eval.jsonl), as four-way choices (tiny.choices.jsonl)
and as prompts with one right answer (tiny.answers.jsonl) feed the chat and evaluation configs; every question about animals
and things (tiny.questions.jsonl) is what a policy is rewarded for.

A model of half a million parameters has to learn it in minutes on one CPU, hence few names and many
repetitions of the same facts; it must not be learnable by heart, hence free combination of the parts.
Needs the standard library only.
"""
import argparse
import json
import os
import random

HERE = os.path.dirname(os.path.abspath(__file__))

GIRLS = ["Anna", "Mia", "Lily", "Nora", "Ella", "Ruth", "Ivy", "Clara"]
BOYS = ["Tom", "Ben", "Max", "Leo", "Sam", "Finn", "Oscar", "Hugo"]
FAMILY = ["mother", "father", "sister", "brother", "grandmother", "grandfather", "aunt", "uncle"]
# animal: (food, home, sound, legs, young)
ANIMALS = {
    "cow": ("grass", "a barn", "moos", 4, "calf"), "dog": ("meat", "a kennel", "barks", 4, "puppy"),
    "cat": ("fish", "a basket", "purrs", 4, "kitten"), "horse": ("hay", "a stable", "neighs", 4, "foal"),
    "sheep": ("grass", "a fold", "bleats", 4, "lamb"), "hen": ("seeds", "a coop", "clucks", 2, "chick"),
    "duck": ("weeds", "a pond", "quacks", 2, "duckling"), "owl": ("mice", "a hollow tree", "hoots", 2, "owlet"),
    "bee": ("nectar", "a hive", "buzzes", 6, "larva"), "bear": ("berries", "a cave", "growls", 4, "cub"),
    "frog": ("flies", "a pond", "croaks", 4, "tadpole"), "lion": ("meat", "the savanna", "roars", 4, "cub"),
}
COLOURS = ["red", "blue", "green", "yellow", "white", "black", "brown", "grey"]
# thing: (colour that is true of it, what it is for)
THINGS = {
    "lamp": ("yellow", "giving light"), "spoon": ("grey", "eating soup"), "kettle": ("grey", "boiling water"),
    "broom": ("brown", "sweeping the floor"), "ladder": ("brown", "reaching high places"),
    "umbrella": ("black", "keeping dry in the rain"), "map": ("green", "finding the way"),
    "basket": ("brown", "carrying apples"), "clock": ("white", "telling the time"),
    "key": ("grey", "opening a door"), "blanket": ("blue", "keeping warm at night"),
    "kite": ("red", "flying in the wind"), "boat": ("white", "crossing the lake"),
    "pencil": ("yellow", "writing a letter"), "rope": ("brown", "pulling a cart"),
}
PLACES = ["garden", "kitchen", "forest", "market", "village", "harbour", "library", "school", "meadow", "mill"]
FRUIT = ["apple", "pear", "plum", "cherry", "lemon", "orange"]
PLURAL = {"cherry": "cherries", "sheep": "sheep"}
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
           "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December"]
SEASONS = {"spring": "the snow melts and the first flowers open", "summer": "the days are long and warm",
           "autumn": "the leaves turn yellow and fall", "winter": "the lake freezes and the nights are long"}
WEATHER = ["sunny", "rainy", "windy", "cloudy", "cold", "warm"]
MOODS = ["happy", "sad", "tired", "proud", "hungry", "afraid", "curious"]
CAPITALS = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Norway": "Oslo", "Japan": "Tokyo",
            "Egypt": "Cairo", "Greece": "Athens", "Poland": "Warsaw", "Peru": "Lima", "Kenya": "Nairobi"}
OPPOSITES = {"hot": "cold", "big": "small", "fast": "slow", "light": "dark", "early": "late", "full": "empty",
             "old": "new", "dry": "wet", "high": "low", "open": "closed", "soft": "hard", "loud": "quiet"}


def article(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def plural(noun):
    return PLURAL.get(noun, noun + "s")


def count(n, noun):
    return f"{NUMBERS[n]} {noun if n == 1 else plural(noun)}"


def cap(text):
    return text[0].upper() + text[1:]


class Writer:
    """Draws one document at a time; every random choice comes from one seeded stream."""

    def __init__(self, seed):
        self.rng = random.Random(seed)

    def pick(self, items):
        items = list(items)
        return items[self.rng.randrange(len(items))]

    def person(self):
        if self.rng.randrange(2):
            return self.pick(GIRLS), "she", "her"
        return self.pick(BOYS), "he", "his"

    def two_people(self):
        first = self.person()
        second = self.person()
        while second[0] == first[0]:
            second = self.person()
        return first, second

    # --- stories ---
    def lost_thing(self):
        (name, he, his), (friend, _, _) = self.two_people()
        thing, place, other = self.pick(THINGS), self.pick(PLACES), self.pick(PLACES)
        while other == place:
            other = self.pick(PLACES)
        colour, mood = self.pick(COLOURS), self.pick(["happy", "proud", "glad"])
        found = self.pick([f"behind the door of the {other}", f"under a bench in the {other}",
                           f"in the {other}, next to the wall"])
        return (f"{name} had a {colour} {thing}. One {self.pick(DAYS)} {he} took it to the {place}. "
                f"When {he} came home, the {thing} was gone. {name} was sad. "
                f"{friend} said: \"Let us look for it together.\" They looked in the {place}, but the {thing} was "
                f"not there. At last {friend} found the {colour} {thing} {found}. "
                f"{name} was {mood} and thanked {his} friend.")

    def helping(self):
        (name, he, his), (friend, _, _) = self.two_people()
        animal, relative = self.pick(ANIMALS), self.pick(FAMILY)
        food = ANIMALS[animal][0]
        return (f"One {self.pick(WEATHER)} morning {name} went to the {self.pick(PLACES)} with {his} {relative}. "
                f"There they saw {article(animal)}. The {animal} was hungry. "
                f"\"What does {article(animal)} eat?\" asked {name}. "
                f"\"{cap(article(animal))} eats {food},\" said {his} {relative}. "
                f"So {name} brought some {food}, and the {animal} ate everything. "
                f"In the evening {he} told {friend} about the {animal}.")

    def sharing(self):
        (name, he, his), (friend, _, _) = self.two_people()
        fruit, have, give = self.pick(FRUIT), self.rng.randrange(3, 13), 0
        give = self.rng.randrange(1, have)
        left = have - give
        return (f"{name} had {count(have, fruit)} in a basket. {friend} had none. "
                f"{name} gave {friend} {count(give, fruit)}. Then {name} had {count(left, fruit)} left. "
                f"{self.pick(['Sharing makes two people happy.', 'A shared meal tastes better.', 'Friends share what they have.'])}")

    def day(self):
        name, he, his = self.person()
        day = self.rng.randrange(7)
        weather = self.pick(WEATHER)
        plan = {"sunny": "swam in the lake", "rainy": "read a book at home", "windy": "flew a kite",
                "cloudy": "went for a walk", "cold": "drank hot milk", "warm": "sat under a tree"}[weather]
        return (f"On {DAYS[day]} it was {weather}, so {name} {plan}. "
                f"{cap(he)} was {self.pick(MOODS)} in the evening and went to bed "
                f"{self.pick(['early', 'late', 'at eight', 'at nine'])}. "
                f"The next day was {DAYS[(day + 1) % 7]}.")

    def tool(self):
        name, he, his = self.person()
        thing = self.pick(THINGS)
        use = THINGS[thing][1]
        return (f"{name} looked at the {thing} in the {self.pick(PLACES)}. \"What is it for?\" {he} asked. "
                f"\"{cap(article(thing))} is for {use},\" said {his} {self.pick(FAMILY)}. "
                f"Since then {name} uses the {thing} for {use}.")

    # --- facts ---
    def animal_facts(self):
        animal = self.pick(ANIMALS)
        food, home, sound, legs, young = ANIMALS[animal]
        facts = [f"{cap(article(animal))} eats {food}.", f"{cap(article(animal))} lives in {home}.",
                 f"{cap(article(animal))} has {NUMBERS[legs]} legs.", f"{cap(article(animal))} {sound}.",
                 f"The young of {article(animal)} is called {article(young)}."]
        self.rng.shuffle(facts)
        return " ".join(facts[:self.rng.randrange(3, 6)])

    def compare(self):
        first, second = self.pick(ANIMALS), self.pick(ANIMALS)
        while ANIMALS[first][0] == ANIMALS[second][0]:
            second = self.pick(ANIMALS)
        return (f"{cap(article(first))} eats {ANIMALS[first][0]}, but {article(second)} eats {ANIMALS[second][0]}. "
                f"{cap(article(first))} has {NUMBERS[ANIMALS[first][3]]} legs, and {article(second)} has "
                f"{NUMBERS[ANIMALS[second][3]]} legs.")

    def season(self):
        season = self.pick(SEASONS)
        order = list(SEASONS)
        after = order[(order.index(season) + 1) % 4]
        return (f"In {season} {SEASONS[season]}. After {season} comes {after}. In {after} {SEASONS[after]}.")

    def calendar(self):
        kind, names = ("day", DAYS) if self.rng.randrange(2) else ("month", MONTHS)
        at, n = self.rng.randrange(len(names)), len(names)
        return (f"The {kind} after {names[at]} is {names[(at + 1) % n]}. "
                f"The {kind} before {names[at]} is {names[at - 1]}.")

    def sums(self):
        lines = []
        for _ in range(self.rng.randrange(2, 5)):
            a, b = self.rng.randrange(1, 11), self.rng.randrange(1, 11)
            kind = self.rng.randrange(3)
            if kind == 0:
                lines.append(f"{a} + {b} = {a + b}.")
            elif kind == 1:
                lines.append(f"{a + b} - {b} = {a}.")
            else:
                lines.append(f"{cap(NUMBERS[a])} and {NUMBERS[b]} make {NUMBERS[a + b]}.")
        return " ".join(lines)

    def capital(self):
        land = self.pick(CAPITALS)
        return f"The capital of {land} is {CAPITALS[land]}. {CAPITALS[land]} is a city in {land}."

    def opposite(self):
        word = self.pick(OPPOSITES)
        return f"The opposite of {word} is {OPPOSITES[word]}. The opposite of {OPPOSITES[word]} is {word}."

    def recipe(self):
        dish, steps = self.pick([
            ("tea", ["boil some water", "pour the water over the leaves", "wait for three minutes"]),
            ("soup", ["cut the carrots", "put them into a pot with water", "cook them until they are soft"]),
            ("bread", ["mix flour, water and salt", "let the dough rest for two hours", "bake it in a hot oven"]),
            ("a fruit salad", ["wash the fruit", "cut it into small pieces", "mix it in a bowl"]),
            ("pancakes", ["mix flour, milk and eggs", "heat a little butter in a pan", "bake them on both sides"]),
            ("a kite", ["tie two sticks together", "glue paper over the sticks", "fix a long rope to it"])])
        return (f"How to make {dish}: first, {steps[0]}. Then {steps[1]}. Finally, {steps[2]}. "
                f"{self.pick(['Be careful.', 'Enjoy it.', 'Ask somebody to help you.'])}")

    # --- questions ---
    def asked(self):
        """A question, its answer as a sentence, the word that matters in it, and three wrong words."""
        animal, thing, land, word = (self.pick(t) for t in (ANIMALS, THINGS, CAPITALS, OPPOSITES))
        a, b, day = self.rng.randrange(1, 11), self.rng.randrange(1, 11), self.rng.randrange(7)
        food, home, _, legs, _ = ANIMALS[animal]
        question, before, right, pool = self.pick([
            (f"What does {article(animal)} eat?", f"{cap(article(animal))} eats ", food,
             [row[0] for row in ANIMALS.values()]),
            (f"Where does {article(animal)} live?", f"{cap(article(animal))} lives in ", home,
             [row[1] for row in ANIMALS.values()]),
            (f"How many legs does {article(animal)} have?", f"{cap(article(animal))} has ",
             NUMBERS[legs] + " legs", [n + " legs" for n in ("two", "three", "four", "six", "eight")]),
            (f"What is {article(thing)} for?", f"{cap(article(thing))} is for ", THINGS[thing][1],
             [row[1] for row in THINGS.values()]),
            (f"What is the capital of {land}?", f"The capital of {land} is ", CAPITALS[land],
             list(CAPITALS.values())),
            (f"What is the opposite of {word}?", f"The opposite of {word} is ", OPPOSITES[word],
             list(OPPOSITES.values())),
            (f"What is {a} + {b}?", f"{a} + {b} = ", str(a + b), [str(a + b + d) for d in (-1, 1, 2, 3)]),
            (f"Which day comes after {DAYS[day]}?", f"After {DAYS[day]} comes ", DAYS[(day + 1) % 7], DAYS),
        ])
        wrong = sorted(set(pool) - {right})
        self.rng.shuffle(wrong)
        return question, before, right, wrong[:3]

    def question(self):
        question, before, right, _ = self.asked()
        return f"Question: {question}\nAnswer: {before}{right}."

    def quiz(self):
        return "\n".join(self.question() for _ in range(self.rng.randrange(2, 4)))

    def letter(self):
        (name, _, _), (friend, _, _) = self.two_people()
        thing = self.pick(THINGS)
        return (f"Dear {friend},\nthank you for the {thing}. It is {self.pick(WEATHER)} here, and I am "
                f"{self.pick(MOODS)}. On {self.pick(DAYS)} I will go to the {self.pick(PLACES)}. "
                f"Please visit me in {self.pick(SEASONS)}.\nYours, {name}")

    def talk(self):
        (name, _, _), (friend, _, _) = self.two_people()
        place, day, fruit = self.pick(PLACES), self.pick(DAYS), self.pick(FRUIT)
        return (f"\"Good morning, {friend},\" said {name}. \"Where are you going?\"\n"
                f"\"I am going to the {place},\" said {friend}. \"I want to buy {plural(fruit)}.\"\n"
                f"\"May I come with you?\"\n\"{self.pick(['Of course', 'Yes, please do', 'Not today, but on ' + day])}.\"")

    def document(self):
        kinds = [(self.lost_thing, 5), (self.helping, 5), (self.sharing, 5), (self.day, 4), (self.tool, 3),
                 (self.animal_facts, 4), (self.compare, 2), (self.season, 2), (self.calendar, 2), (self.sums, 3),
                 (self.capital, 1), (self.opposite, 1), (self.recipe, 2), (self.question, 4), (self.quiz, 4),
                 (self.letter, 4), (self.talk, 4)]
        at = self.rng.randrange(sum(weight for _, weight in kinds))
        for make, weight in kinds:
            if at < weight:
                return make()
            at -= weight
        raise AssertionError("weights")


def write(path, seed, size, taken):
    writer, documents, total, repeats = Writer(seed), [], 0, 0
    while total < size:
        text = writer.document()
        # Short facts recur in training on purpose, but no document of one file stands in the other.
        if text in taken:
            repeats += 1
            continue
        documents.append(text)
        total += len(text.encode("utf-8")) + 2
    with open(path, "w", encoding="utf-8", newline="\n") as out:
        out.write("\n\n".join(documents) + "\n")
    words = {word.strip(".,:;?!\"").lower() for text in documents for word in text.split()}
    print(f"{path}: {total} bytes, {len(documents)} documents, {len(set(documents))} different, "
          f"{len(words)} words, {repeats} left out")
    return set(documents)


def write_lines(path, rows):
    with open(path, "w", encoding="utf-8", newline="\n") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(f"{path}: {len(rows)} lines")


def chat_rows(seed, n):
    """Conversations of one to three questions, some with a system turn."""
    writer, rows = Writer(seed), []
    for _ in range(n):
        turns = []
        if writer.rng.randrange(4) == 0:
            turns.append({"role": "system", "content": "Answer in one short sentence."})
        for _ in range(writer.pick([1, 1, 1, 2, 3])):
            question, before, right, _ = writer.asked()
            turns.append({"role": "user", "content": question})
            turns.append({"role": "assistant", "content": f"{before}{right}."})
        rows.append({"messages": turns})
    return rows


def choice_rows(seed, n):
    writer, rows, seen = Writer(seed), [], set()
    while len(rows) < n:
        question, before, right, wrong = writer.asked()
        if question in seen:
            continue
        seen.add(question)
        gold = writer.rng.randrange(4)
        choices = [" " + word + "." for word in wrong]
        choices.insert(gold, " " + right + ".")
        rows.append({"query": f"Question: {question}\nAnswer: {before.rstrip()}", "choices": choices,
                     "gold": gold})
    return rows


def answer_rows(seed, n):
    writer, rows, seen = Writer(seed), [], set()
    while len(rows) < n:
        question, before, right, _ = writer.asked()
        if question not in seen:
            seen.add(question)
            rows.append({"prompt": f"Question: {question}\nAnswer:", "answer": f"{before}{right}."})
    return rows


def question_rows():
    """What the model half knows: each fact about an animal or a thing."""
    asked = []
    for animal, (food, home, _, legs, _) in ANIMALS.items():
        one = article(animal)
        asked += [(f"What does {one} eat?", f"{cap(one)} eats {food}."),
                  (f"Where does {one} live?", f"{cap(one)} lives in {home}."),
                  (f"How many legs does {one} have?", f"{cap(one)} has {NUMBERS[legs]} legs.")]
    asked += [(f"What is {article(thing)} for?", f"{cap(article(thing))} is for {use}.")
              for thing, (_, use) in THINGS.items()]
    return [{"prompt": f"Question: {question}\nAnswer:", "answer": answer} for question, answer in asked]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.path.join(HERE, "..", "data", "text"))
    parser.add_argument("--bytes", type=int, default=240000)
    parser.add_argument("--eval-bytes", type=int, default=24000)
    arguments = parser.parse_args()
    os.makedirs(arguments.out, exist_ok=True)
    held_out = write(os.path.join(arguments.out, "tiny.eval.txt"), 2, arguments.eval_bytes, set())
    write(os.path.join(arguments.out, "tiny.txt"), 1, arguments.bytes, held_out)
    write_lines(os.path.join(arguments.out, "tiny.chat.jsonl"), chat_rows(3, 320))
    write_lines(os.path.join(arguments.out, "tiny.chat.eval.jsonl"), chat_rows(4, 40))
    write_lines(os.path.join(arguments.out, "tiny.choices.jsonl"), choice_rows(5, 48))
    write_lines(os.path.join(arguments.out, "tiny.answers.jsonl"), answer_rows(6, 32))
    write_lines(os.path.join(arguments.out, "tiny.questions.jsonl"), question_rows())


if __name__ == "__main__":
    main()
