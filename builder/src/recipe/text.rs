//! A recipe as it is typed: every key, its type and its words for the schema; positions where they are needed.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

/// A file in the format people write. Unknown keys are errors.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Recipe", extend("anyOf" = [
    {"required": ["extends"]},
    {"required": ["base"], "properties": {"base": {"required": ["debian"], "properties":
        {"debian": {"required": ["suite", "kernel", "packages"]}}}}},
]))]
pub struct RecipeText {
    /// Name of the image: lower-case letters, digits, `-`.
    #[schemars(with = "String", regex(pattern = "^[a-z0-9][a-z0-9-]{0,63}$"))]
    pub(super) name: Spanned<String>,
    /// Version of the image: letters, digits, `.+~-`.
    #[schemars(with = "String", regex(pattern = "^[0-9A-Za-z][0-9A-Za-z.+~-]{0,127}$"))]
    pub(super) version: Spanned<String>,
    /// The recipe that this one goes on from, a path relative to this file. What is stated here replaces; lists append, and
    /// `-NAME` in one takes away what the other has. Name and version are each recipe's own.
    #[serde(default, deserialize_with = "stated")]
    #[schemars(with = "String")]
    pub(super) extends: Option<Spanned<String>>,
    /// What the image is made on. A recipe that extends another may leave out what that one states.
    #[serde(default)]
    pub(super) base: BaseText,
    /// Debian packages to install, with what they depend on.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(super) packages: Vec<Spanned<String>>,
    /// Services of ours that run on the device: their programs, units and users, from the pack (--pack).
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(super) services: Vec<Spanned<String>>,
    /// Files to lay over the packages'.
    #[serde(default)]
    pub(super) files: Vec<FileText>,
    /// systemd units to switch on or off for good.
    #[serde(default)]
    pub(super) units: UnitsText,
    /// Users to make, through sysusers.
    #[serde(default)]
    pub(super) users: Vec<UserText>,
    /// Programs that keep their set-uid bit, set-gid bit and file capabilities. Where this list is, though it be empty,
    /// every other file of the image loses its own; without it all keep them.
    #[serde(default, deserialize_with = "stated")]
    #[schemars(with = "Vec<String>")]
    pub(super) set_id: Option<Spanned<Vec<Spanned<String>>>>,
    /// Arguments for the kernel.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(super) kernel_args: Vec<Spanned<String>>,
    /// Folder of public keys that the release is verified against, relative to the recipe.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(super) trust: Option<Spanned<String>>,
    /// Channel that the release is made for, unless --channel says otherwise.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(super) channel: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Base")]
pub(super) struct BaseText {
    /// A Debian suite.
    #[serde(default)]
    pub(super) debian: DebianText,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Debian")]
pub(super) struct DebianText {
    /// Code name of the suite, such as `trixie`.
    #[serde(default, deserialize_with = "stated")]
    #[schemars(with = "String")]
    pub(super) suite: Option<Spanned<String>>,
    /// The package that brings the kernel.
    #[serde(default, deserialize_with = "stated")]
    #[schemars(with = "String")]
    pub(super) kernel: Option<Spanned<String>>,
    /// What makes the system start: init, ostree, dracut.
    #[serde(default, deserialize_with = "stated")]
    #[schemars(with = "Vec<String>")]
    pub(super) packages: Option<Vec<Spanned<String>>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "File")]
pub(super) struct FileText {
    /// Where it goes in the image: absolute, not under /var, /run, /tmp, /proc, /sys, /dev or /boot. `-PATH` and nothing
    /// else takes away the file of the recipe that this one extends.
    #[schemars(with = "String")]
    pub(super) path: Spanned<String>,
    /// A file or folder to copy, relative to the recipe.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(super) source: Option<Spanned<String>>,
    /// The content itself.
    #[serde(default)]
    pub(super) content: Option<String>,
    /// Target of a symbolic link to make.
    #[serde(default)]
    pub(super) link: Option<String>,
    /// Permission bits in octal, in quotes; default 0644, for folders 0755.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(super) mode: Option<Spanned<String>>,
    /// Owner, a name or number in the image; default root.
    #[serde(default)]
    pub(super) user: Option<String>,
    /// Group, a name or number in the image; default root.
    #[serde(default)]
    pub(super) group: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Units")]
pub(super) struct UnitsText {
    /// Units to enable.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(super) enable: Vec<Spanned<String>>,
    /// Units to mask.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(super) mask: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "User", extend("anyOf" = [
    {"required": ["uid"]},
    {"properties": {"name": {"pattern": "^-"}}},
]))]
pub(super) struct UserText {
    /// Name of the user and of its group.
    /// `-NAME` and nothing else takes away the user of the recipe that this one extends.
    #[schemars(with = "String", regex(pattern = "^-?[a-z_][a-z0-9_-]{0,30}$"))]
    pub(super) name: Spanned<String>,
    /// Number of both.
    #[serde(default, deserialize_with = "stated")]
    #[schemars(with = "u32")]
    pub(super) uid: Option<Spanned<u32>>,
    /// What the user is for.
    #[serde(default)]
    pub(super) comment: String,
    /// Home directory; default `/`.
    #[serde(default)]
    pub(super) home: Option<String>,
    /// Login shell; default none may log in.
    #[serde(default)]
    pub(super) shell: Option<String>,
    /// Further groups.
    #[serde(default)]
    pub(super) groups: Vec<String>,
}

/// For keys that a recipe leaves out when another one states them: one that stands there without a value is a slip, and must
/// not read as left out.
fn stated<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}
