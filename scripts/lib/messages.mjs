// What the scripts say, always on stderr, always with the program's name in front.

/** Something the user can put right: printed without a stack trace, exit code 69 (a needed thing is unavailable). */
export class SetupError extends Error {
  /** @param {string} message what is missing or failed, and the remedy */
  constructor(message) {
    super(message);
    this.name = 'SetupError';
  }
}

/** @param {string} line */
export function say(line) {
  process.stderr.write(`ctkvr: ${line}\n`);
}

/** Runs `main`; prints what went wrong and sets the exit code. @param {() => Promise<void>} main */
export async function runMain(main) {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    say(error.message);
    process.exitCode = 69;
  }
}
