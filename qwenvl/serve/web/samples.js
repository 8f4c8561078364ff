// What one could ask: a sample per task. Each brings its picture, drawn for this project, so that it can be tried at once.
//
// sign, cities and bug are the kinds of dialogue that Figure 2 of the Qwen-VL paper (arXiv 2308.12966) shows: a floor read off
// a sign and a question that follows from it, two cities compared, a mistake found in a screenshot. Pictures and words are ours.

/**
 * @typedef {Object} Sample
 * @property {string} id
 * @property {string} icon
 * @property {[string, string]} name English, Chinese
 * @property {[string, string]} ask
 * @property {[string, string][]} [next] what could be asked after the answer
 * @property {string[]} files below assets/
 * @property {string} [format] the form of the answer
 */

/** Questions for a picture of one's own, in the words that the models were trained with. @type {[string, string][]} */
export const PICTURE_PROMPTS = [
  ["Describe this picture.", "描述这张图片。"],
  ["Tell me what you see and draw a box around each thing.", "写一句带位置的图片说明。"],
  ["What is written, and where?", "写了什么？在哪里？"],
  ["QwenVL HTML", "QwenVL HTML"],
  ["Give the key information as JSON.", "请以 JSON 给出关键信息。"],
];

/** And for a clip. @type {[string, string][]} */
export const CLIP_PROMPTS = [
  ["What happens in this clip?", "视频里发生了什么？"],
  ["What happens when? Give start and end in seconds.", "什么时候发生了什么？请给出起止秒数。"],
];

/** @type {Sample[]} */
export const SAMPLES = [
  {
    id: "ground",
    icon: "box",
    name: ["Find a thing", "找出物体"],
    ask: ["Where is the donut? Give its box.", "甜甜圈在哪里？请用框标出来。"],
    next: [
      ["Where is the panda? Give its box.", "熊猫在哪里？请用框标出来。"],
      ["Tell me what you see and draw a box around each thing.", "写一句带位置的图片说明。"],
    ],
    files: ["samples/scene-2.png"],
  },
  {
    id: "caption",
    icon: "caption",
    name: ["Describe a picture", "描述图片"],
    ask: ["What can you see in this picture?", "你在图中看到了什么？"],
    next: [["How many things can you see besides the text?", "除了文字还有几样东西？"]],
    files: ["samples/scene-1.png"],
  },
  {
    id: "read",
    icon: "text",
    name: ["Read text, with places", "识字与定位"],
    ask: ["What is written, and where?", "写了什么？在哪里？"],
    files: ["samples/scene-9.png"],
  },
  {
    id: "document",
    icon: "page",
    name: ["Page to HTML", "文档转 HTML"],
    ask: ["QwenVL HTML", "QwenVL HTML"],
    files: ["pictures/page.svg"],
  },
  {
    id: "json",
    icon: "braces",
    name: ["Receipt to JSON", "票据转 JSON"],
    ask: [
      "Give these as JSON: shop, date, items (name, price), total.",
      "请以 JSON 给出：shop、date、items（name、price）、total。",
    ],
    files: ["pictures/receipt.svg"],
    format: "json_object",
  },
  {
    id: "when",
    icon: "clip",
    name: ["When in a clip", "视频定位"],
    ask: ["When is the star there? Give start and end in seconds.", "星形什么时候出现？请给出起止秒数。"],
    next: [["In which direction does it move?", "它往哪个方向移动？"]],
    files: ["pictures/clip.mp4"],
  },
  {
    id: "sign",
    icon: "sign",
    name: ["A sign, and what follows", "看指示牌"],
    ask: ["On which floor are eyes treated?", "眼科在几楼？"],
    next: [["My tooth aches. Which floor should I go to?", "我牙疼，该去几楼？"]],
    files: ["pictures/sign.svg"],
  },
  {
    id: "cities",
    icon: "city",
    name: ["Two cities compared", "比较两座城市"],
    ask: ["Which of the two cities lies by the sea, and how else do they differ?", "这两座城市哪一座靠海？还有什么不同？"],
    next: [["In which one would you rather walk, and why?", "你更愿意在哪座城市散步？为什么？"]],
    files: ["pictures/harbour.svg", "pictures/hills.svg"],
  },
  {
    id: "bug",
    icon: "bug",
    name: ["A bug in a screenshot", "截图找错"],
    ask: ["What is wrong with this program, and how is it mended?", "这段程序错在哪里？该怎么改？"],
    next: [["Write the corrected function.", "请写出改正后的函数。"]],
    files: ["pictures/bug.svg"],
  },
];
