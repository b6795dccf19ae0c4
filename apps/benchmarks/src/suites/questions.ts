/** Short questions that differ in length and in what they ask: seven forms of seven things. */

const things = ['the moon', 'a river', 'bread', 'the number seven', 'a violin', 'rain', 'chess'];

const forms = [
  (thing: string) => `What is ${thing}?`,
  (thing: string) => `Tell me about ${thing} in one sentence.`,
  (thing: string) =>
    `Name three things that people say of ${thing}, and explain the second of them to a child of six years.`,
  (thing: string) => `Write a line of a poem on ${thing}.`,
  (thing: string) => `Is ${thing} older than writing? Answer yes or no, then say why.`,
  (thing: string) => `Translate "I like ${thing}" into French.`,
  (thing: string) => `How would you draw ${thing} with four straight lines? Describe each line and where it begins.`,
];

export const questions: readonly string[] = forms.flatMap((form) => things.map(form));
