//! Recipes: preset, file, `--set`, flags → one resolved table of settings.

/// A struct whose fields can tell what they are: their documentation is there at run time, for `--help`.
macro_rules! described {
    ($(#[$outer:meta])* pub struct $name:ident {
        $($(#[$($meta:tt)*])* pub $field:ident: $type:ty,)+
    }) => {
        $(#[$outer])*
        pub struct $name {
            $($(#[$($meta)*])* pub $field: $type,)+
        }

        impl $name {
            /// Every key and what it is, in order.
            pub const KEYS: &[(&str, &str)] =
                &[$((stringify!($field), concat!($($crate::stage::settings::doc_text!($($meta)*)),*))),+];
        }
    };
}

/// The text of a line of documentation; none for any other attribute.
macro_rules! doc_text {
    (doc = $text:literal) => {
        $text
    };
    ($($other:tt)*) => {
        ""
    };
}

pub(super) use described;
pub(super) use doc_text;

mod keys;
mod optim;
mod presets;
mod pretrain;
mod rule;
mod shape;
mod sized;
mod stage;

pub(super) use keys::{at_least_one, is_zero};
pub use optim::OptimConfig;
pub use presets::{PRESETS, usual_vocab_size};
pub use pretrain::Settings;
pub(super) use rule::Fit;
pub use shape::{Family, Shape};
pub use sized::{Cost, Sized, sized};
pub(super) use stage::{Resolved, recipe};
pub use stage::{StageConfig, StageSettings};
