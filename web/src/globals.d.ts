// What build.js fills in.
declare const VERSION: string; // a digest of the files
declare const FILES: string[]; // the files of the page
