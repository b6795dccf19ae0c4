/** Greedy, and an end-of-turn token is a token like any other: the number of tokens must not depend on what the model says. */
export const greedyGeneration = { sampling: { temperature: 0 }, ignoreEndOfTurn: true } as const;
