/** The fact that is hidden, and the question that asks for it. The wording is one that a model of 135 million parameters answers when it reads everything. */

export const QUESTION = 'What is the special magic number of the lighthouse?';

export function lighthouseFact(number: number): string {
  return `The special magic number of the lighthouse is ${number}. Remember it: the special magic number of the lighthouse is ${number}.`;
}

/** Whether an answer names the number, however its digits are grouped. */
export function namesNumber(answer: string, number: number): boolean {
  return answer.replace(/(?<=\d)[,. ](?=\d)/g, '').includes(String(number));
}
