/** Lets what waits at it go on one by one, when the test says so. It is open until it is shut. */
export class Tap {
  #isOpen = true;
  #drops = 0;
  readonly #waiting: (() => void)[] = [];

  /** What comes from now on waits. */
  shut(): void {
    this.#isOpen = false;
    this.#drops = 0;
  }

  /** Lets `count` go on: those that wait, or the next ones to come. */
  let(count: number): void {
    for (let i = 0; i < count; i++) {
      const next = this.#waiting.shift();
      if (next === undefined) this.#drops += 1;
      else next();
    }
  }

  runFreely(): void {
    this.#isOpen = true;
    for (const next of this.#waiting.splice(0)) next();
  }

  /** Resolves when it is one's turn. */
  drop(): Promise<void> {
    if (this.#isOpen) return Promise.resolve();
    if (this.#drops > 0) {
      this.#drops -= 1;
      return Promise.resolve();
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}
